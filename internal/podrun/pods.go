package podrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pods returns all sandboxes, the newest first.
func (c *Client) pods(ctx context.Context) ([]*runtimeapi.PodSandbox, error) {
	resp, err := c.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, c.RPCError("listing the pods", err)
	}
	slices.SortFunc(resp.Items, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(b.CreatedAt, a.CreatedAt) })
	return resp.Items, nil
}

// Pod is a pod that was found by its name.
type Pod struct {
	Sandbox   *runtimeapi.PodSandbox
	Container *runtimeapi.Container // the newest attempt, nil when there is none
}

// Empty tells whether there are no pods.
func (c *Client) Empty(ctx context.Context) (bool, error) {
	pods, err := c.pods(ctx)
	return len(pods) == 0, err
}

// Find returns the pod of this name; a namespace may stand before it, as in
// default/web. An id of the sandbox, or its beginning, is accepted too. A name
// that several pods have is an error that lists them.
func (c *Client) Find(ctx context.Context, name string) (*Pod, error) {
	pods, err := c.pods(ctx)
	if err != nil {
		return nil, err
	}
	found := slices.DeleteFunc(slices.Clone(pods), func(p *runtimeapi.PodSandbox) bool { return !isNamed(p, name) })
	switch {
	case len(found) == 1:
		container, err := c.newest(ctx, found[0].Id)
		return &Pod{Sandbox: found[0], Container: container}, err
	case len(found) > 1:
		return nil, fmt.Errorf("pod %q: there are several: %s; name one of them", name, strings.Join(addresses(found), ", "))
	case len(pods) == 0:
		return nil, fmt.Errorf("pod %q: there are no pods; `qemulet run POD.yaml` makes one", name)
	}
	return nil, fmt.Errorf("pod %q is not there; `qemulet ps` lists those that are", name)
}

// shortestID is how much of an id counts as one; all begin alike.
const shortestID = 12

func isNamed(p *runtimeapi.PodSandbox, name string) bool {
	m := p.Metadata
	return name == m.Name || name == m.Namespace+"/"+m.Name || len(name) >= shortestID && strings.HasPrefix(p.Id, name)
}

// addresses are names under which only one pod is found each.
func addresses(pods []*runtimeapi.PodSandbox) []string {
	var all []string
	seen := map[string]bool{}
	for _, p := range pods {
		address := p.Metadata.Namespace + "/" + p.Metadata.Name
		if seen[address] {
			address = shortID(p.Id)
		}
		seen[address] = true
		all = append(all, address)
	}
	return all
}

func shortID(id string) string { return id[:min(20, len(id))] }

// FindVM is Find for a pod that must have a VM.
func (c *Client) FindVM(ctx context.Context, name string) (*Pod, error) {
	p, err := c.Find(ctx, name)
	if err == nil && p.Container == nil {
		return nil, fmt.Errorf("pod %q has no VM: its start was cut off; `qemulet rm %s` removes it", name, name)
	}
	return p, err
}

func (c *Client) newest(ctx context.Context, sandbox string) (*runtimeapi.Container, error) {
	resp, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: sandbox}})
	if err != nil {
		return nil, c.RPCError("listing the pod's containers", err)
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
	if len(pods) == 0 {
		_, err := fmt.Fprintln(out, "there are no pods; `qemulet run POD.yaml` makes one")
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
			c.state(ctx, container), c.ip(ctx, p.Id), imageOf(container), Age(p.CreatedAt), shortID(p.Id))
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

// Age is the time since a moment, in nanoseconds since 1970, as kubectl writes
// it: in its largest unit.
func Age(createdAt int64) string {
	switch d := time.Since(time.Unix(0, createdAt)); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// Stop powers the pod's guest off, ends it by force after grace, and says on
// info how it ended.
func (c *Client) Stop(ctx context.Context, name string, grace time.Duration, info io.Writer) error {
	p, err := c.FindVM(ctx, name)
	if err != nil {
		return err
	}
	if err := c.stopContainer(ctx, p.Container.Id, grace); err != nil {
		return err
	}
	_, err = c.sayEnd(ctx, p.Container.Id, info)
	return err
}

// stopContainer rounds the time up: CRI counts seconds, and 0 is force.
func (c *Client) stopContainer(ctx context.Context, id string, grace time.Duration) error {
	_, err := c.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: int64((grace + time.Second - 1) / time.Second)})
	if err != nil {
		return c.RPCError("stopping the VM", err)
	}
	return nil
}

// Remove removes the pod with all that belongs to it. A running one is
// refused unless force is set.
func (c *Client) Remove(ctx context.Context, name string, force bool, info io.Writer) error {
	p, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	if p.Container != nil && p.Container.State == runtimeapi.ContainerState_CONTAINER_RUNNING && !force {
		return fmt.Errorf("the VM of pod %q runs: `qemulet stop %s` powers it off, `qemulet rm --force %s` does not wait for that", name, name, name)
	}
	logs, err := c.logDir(ctx, p)
	if err != nil {
		return err
	}
	if err := c.removePod(ctx, p.Sandbox.Id, logs); err != nil {
		return err
	}
	if err := c.removeVolumes(ctx, p.Sandbox); err != nil {
		return err
	}
	fmt.Fprintf(info, "removed pod %s/%s\n", p.Sandbox.Metadata.Namespace, p.Sandbox.Metadata.Name)
	return nil
}

// removeVolumes removes what this mode has made for a pod, and for pods that came
// to nothing.
func (c *Client) removeVolumes(ctx context.Context, s *runtimeapi.PodSandbox) error {
	if s.Labels[labelRun] == "" {
		return nil
	}
	places, err := c.places(ctx)
	if err != nil {
		return err
	}
	return errors.Join(places.remove(s.Metadata.Uid), c.sweep(ctx, places))
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
		return "", c.RPCError("asking for the log's path", err)
	}
	return resp.GetStatus().GetLogPath(), nil
}
