package podrun

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// rpcError says what was being done, and leaves out gRPC's own words.
func rpcError(doing string, err error) error {
	if s, ok := status.FromError(err); ok {
		return fmt.Errorf("%s: %s", doing, s.Message())
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// pods returns all sandboxes, the newest first.
func (c *Client) pods(ctx context.Context) ([]*runtimeapi.PodSandbox, error) {
	resp, err := c.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, rpcError("listing the pods", err)
	}
	slices.SortFunc(resp.Items, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return resp.Items, nil
}

// Pod is a pod that was found by its name.
type Pod struct {
	Sandbox   *runtimeapi.PodSandbox
	Container *runtimeapi.Container // the newest attempt, nil when there is none
}

// Find returns the pod of this name; a namespace may stand before it, as in
// default/web. An id of the sandbox, or its beginning, is accepted too.
func (c *Client) Find(ctx context.Context, name string) (*Pod, error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		m := p.Metadata
		if name == m.Name || name == m.Namespace+"/"+m.Name || len(name) >= 12 && len(name) <= len(p.Id) && p.Id[:len(name)] == name {
			container, err := c.newest(ctx, p.Id)
			return &Pod{Sandbox: p, Container: container}, err
		}
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("pod %q: there are no pods; `qemulet run POD.yaml` makes one", name)
	}
	return nil, fmt.Errorf("pod %q is not there; `qemulet ps` lists those that are", name)
}

func (c *Client) newest(ctx context.Context, sandbox string) (*runtimeapi.Container, error) {
	resp, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: sandbox}})
	if err != nil {
		return nil, rpcError("listing the pod's containers", err)
	}
	if len(resp.Containers) == 0 {
		return nil, nil
	}
	return slices.MaxFunc(resp.Containers, func(a, b *runtimeapi.Container) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) }), nil
}

// List prints a table of all pods.
func (c *Client) List(ctx context.Context, out io.Writer) error {
	pods, err := c.pods(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tPOD\tSTATE\tIP\tIMAGE\tAGE\tID")
	for _, p := range pods {
		container, err := c.newest(ctx, p.Id)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Metadata.Namespace, p.Metadata.Name,
			c.state(ctx, container), c.ip(ctx, p.Id), imageOf(container), age(p.CreatedAt), p.Id[:min(20, len(p.Id))])
	}
	return w.Flush()
}

func (c *Client) state(ctx context.Context, container *runtimeapi.Container) string {
	if container == nil {
		return "no VM"
	}
	switch container.State {
	case runtimeapi.ContainerState_CONTAINER_RUNNING:
		return "running"
	case runtimeapi.ContainerState_CONTAINER_CREATED:
		return "created"
	case runtimeapi.ContainerState_CONTAINER_EXITED:
		resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: container.Id})
		if err != nil {
			return "exited"
		}
		return fmt.Sprintf("exited (%s)", resp.GetStatus().GetReason())
	}
	return "unknown"
}

func (c *Client) ip(ctx context.Context, sandbox string) string {
	resp, err := c.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil {
		return "-"
	}
	return cmp.Or(resp.GetStatus().GetNetwork().GetIp(), "-")
}

func imageOf(c *runtimeapi.Container) string {
	return cmp.Or(c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage(), "-")
}

func age(createdAt int64) string {
	d := time.Since(time.Unix(0, createdAt))
	if d < time.Minute {
		return d.Truncate(time.Second).String()
	}
	return d.Truncate(time.Minute).String()
}

// Stop powers the pod's guest off, and ends it by force after grace.
func (c *Client) Stop(ctx context.Context, name string, grace time.Duration) error {
	p, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	if p.Container == nil {
		return nil
	}
	return c.stopContainer(ctx, p.Container.Id, grace)
}

func (c *Client) stopContainer(ctx context.Context, id string, grace time.Duration) error {
	_, err := c.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: int64(grace / time.Second)})
	if err != nil {
		return rpcError("stopping the VM", err)
	}
	return nil
}

// Remove removes the pod with all that belongs to it. A running one is
// refused unless force is set.
func (c *Client) Remove(ctx context.Context, name string, force bool) error {
	p, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	if p.Container != nil && p.Container.State == runtimeapi.ContainerState_CONTAINER_RUNNING && !force {
		return fmt.Errorf("pod %q runs: stop it first, or use --force", name)
	}
	logs, err := c.logDir(ctx, p)
	if err != nil {
		return err
	}
	return c.removePod(ctx, p.Sandbox.Id, logs)
}

// logDir is the directory of the pod's logs, if this mode made it.
func (c *Client) logDir(ctx context.Context, p *Pod) (string, error) {
	if p.Container == nil || p.Sandbox.Labels[labelRun] == "" {
		return "", nil
	}
	path, err := c.LogPath(ctx, p.Container.Id)
	if err != nil || path == "" {
		return "", err
	}
	return filepath.Dir(filepath.Dir(path)), nil
}

// LogPath is where the container's log is, "" for nowhere.
func (c *Client) LogPath(ctx context.Context, container string) (string, error) {
	resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: container})
	if err != nil {
		return "", rpcError("asking for the log's path", err)
	}
	return resp.GetStatus().GetLogPath(), nil
}

// removePod stops and removes a sandbox, then what kubelet would remove.
func (c *Client) removePod(ctx context.Context, sandbox, logDir string) error {
	if _, err := c.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		return rpcError("stopping the pod's sandbox", err)
	}
	if _, err := c.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		return rpcError("removing the pod's sandbox", err)
	}
	if logDir == "" {
		return nil
	}
	return os.RemoveAll(logDir)
}
