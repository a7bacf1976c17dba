package critwin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/runtime"
)

// Runtime is the twin of *runtime.Runtime. Set the functions before it is used.
type Runtime struct {
	// Before is called at the beginning of each method with its name; its
	// error is the method's.
	Before func(ctx context.Context, method string) error
	// Console is the guest's side of an attached console; ended is closed when
	// the VM ends. nil echoes.
	Console func(ctx context.Context, ended <-chan struct{}, in io.Reader, out io.Writer) error
	// Dial connects to a port of a guest; nil refuses.
	Dial func(ctx context.Context, port int32) (net.Conn, error)
	// Boots is closed when guests have an agent; nil has one at once.
	Boots chan struct{}
	// Happened is where events come from.
	Happened chan runtime.Event

	mu         sync.Mutex
	sandboxes  map[string]*runtime.Sandbox
	containers map[string]*container
	reopened   []string
}

type container struct {
	runtime.Container
	ended chan struct{} // closed when it ends
}

func (r *Runtime) before(ctx context.Context, method string) error {
	if r.Before == nil {
		return nil
	}
	return r.Before(ctx, method)
}

func find[T any](all map[string]T, id string) (T, error) {
	var match T
	count := 0
	for key, object := range all {
		if key == id {
			return object, nil
		}
		if strings.HasPrefix(key, id) {
			match, count = object, count+1
		}
	}
	var none T
	switch count {
	case 0:
		return none, fmt.Errorf("%q: %w", id, errdefs.ErrNotFound)
	case 1:
		return match, nil
	}
	return none, fmt.Errorf("%q is not unique: %w", id, errdefs.ErrInvalidArgument)
}

// RunSandbox makes a ready sandbox with the address 10.1.2.3 and, second, fd00::3.
func (r *Runtime) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	if err := r.before(ctx, "RunSandbox"); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, sb := range r.sandboxes {
		if sb.Config.GetMetadata().String() == cfg.GetMetadata().String() {
			return id, nil
		}
	}
	if r.sandboxes == nil {
		r.sandboxes = map[string]*runtime.Sandbox{}
	}
	id := ids.New()
	r.sandboxes[id] = &runtime.Sandbox{
		ID: id, Config: cfg, Handler: handler, Ready: true, CreatedAt: time.Now(),
		IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")},
	}
	return id, nil
}

// StopSandbox stops the sandbox and its containers.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	if err := r.before(ctx, "StopSandbox"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sb, err := find(r.sandboxes, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	sb.Ready = false
	for _, c := range r.containers {
		if c.SandboxID == sb.ID {
			c.stop(137)
		}
	}
	return nil
}

// RemoveSandbox forgets the sandbox and its containers.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	if err := r.StopSandbox(ctx, id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sb, err := find(r.sandboxes, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	delete(r.sandboxes, sb.ID)
	for key, c := range r.containers {
		if c.SandboxID == sb.ID {
			delete(r.containers, key)
		}
	}
	return nil
}

// Sandbox finds one by the beginning of its id.
func (r *Runtime) Sandbox(id string) (runtime.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sb, err := find(r.sandboxes, id)
	if err != nil {
		return runtime.Sandbox{}, err
	}
	return *sb, nil
}

// Sandboxes lists all, in any order.
func (r *Runtime) Sandboxes() []runtime.Sandbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []runtime.Sandbox
	for _, sb := range r.sandboxes {
		all = append(all, *sb)
	}
	return all
}

// SandboxInfo is one JSON value.
func (r *Runtime) SandboxInfo(string) (map[string]string, error) {
	return map[string]string{"phase": `"ready"`}, nil
}

// CreateContainer makes a container whose image id is its image's name.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	if err := r.before(ctx, "CreateContainer"); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sb, err := find(r.sandboxes, sandboxID)
	if err != nil {
		return "", err
	}
	if r.containers == nil {
		r.containers = map[string]*container{}
	}
	c := &container{ended: make(chan struct{})}
	c.Container = runtime.Container{
		ID: ids.New(), SandboxID: sb.ID, Config: cfg, CreatedAt: time.Now(),
		State:     runtimeapi.ContainerState_CONTAINER_CREATED,
		ImageID:   cfg.GetImage().GetImage(),
		LogPath:   sb.Config.GetLogDirectory() + "/" + cfg.GetLogPath(),
		Resources: cfg.GetLinux().GetResources(),
	}
	r.containers[c.ID] = c
	return c.ID, nil
}

// StartContainer makes a created container a running one.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	if err := r.before(ctx, "StartContainer"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := find(r.containers, id)
	if err != nil {
		return err
	}
	if c.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		return fmt.Errorf("container %s is %s: %w", c.ID, c.State, errdefs.ErrFailedPrecondition)
	}
	c.State, c.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, time.Now()
	return nil
}

// stop needs the lock.
func (c *container) stop(code int32) {
	if c.State == runtimeapi.ContainerState_CONTAINER_EXITED {
		return
	}
	c.State, c.FinishedAt, c.ExitCode = runtimeapi.ContainerState_CONTAINER_EXITED, time.Now(), code
	c.Reason = "Completed"
	close(c.ended)
}

// StopContainer ends a container; with a grace period its guest obeys.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout time.Duration) error {
	if err := r.before(ctx, "StopContainer"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := find(r.containers, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	if timeout > 0 {
		c.stop(0)
	} else {
		c.stop(137)
	}
	return nil
}

// RemoveContainer forgets a container.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	if err := r.StopContainer(ctx, id, 0); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := find(r.containers, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	delete(r.containers, c.ID)
	return nil
}

// ReopenLog remembers for which container it was called; see Reopened.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	if err := r.before(ctx, "ReopenLog"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := find(r.containers, id)
	if err == nil {
		r.reopened = append(r.reopened, c.ID)
	}
	return err
}

// Reopened lists the containers for which ReopenLog was called.
func (r *Runtime) Reopened() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.reopened...)
}

// Container finds one by the beginning of its id.
func (r *Runtime) Container(id string) (runtime.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := find(r.containers, id)
	if err != nil {
		return runtime.Container{}, err
	}
	return c.Container, nil
}

// Containers lists all, in any order.
func (r *Runtime) Containers() []runtime.Container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []runtime.Container
	for _, c := range r.containers {
		all = append(all, c.Container)
	}
	return all
}

// ContainerInfo is one JSON value.
func (r *Runtime) ContainerInfo(string) (map[string]string, error) {
	return map[string]string{"config": `{"vm":{}}`}, nil
}

// AwaitAgent waits for the end of Boots.
func (r *Runtime) AwaitAgent(ctx context.Context, id string) error {
	if _, err := r.Container(id); err != nil || r.Boots == nil {
		return err
	}
	select {
	case <-r.Boots:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no guest agent: %w", errdefs.ErrUnavailable)
	}
}

// Exec prints its input, or else its command, and to stderr that it does; the
// program "false" ends with 1, "flood" prints more than is kept, and "agentless"
// is in a guest without an agent.
func (r *Runtime) Exec(ctx context.Context, id string, command []string, input []byte) (runtime.ExecResult, error) {
	if _, err := r.Container(id); err != nil {
		return runtime.ExecResult{}, err
	}
	switch command[0] {
	case "false":
		return runtime.ExecResult{ExitCode: 1}, nil
	case "flood":
		return runtime.ExecResult{Stdout: make([]byte, 16<<20), Truncated: true}, nil
	case "agentless":
		return runtime.ExecResult{}, fmt.Errorf("no guest agent: %w", errdefs.ErrUnavailable)
	case "sleep":
		<-ctx.Done()
		return runtime.ExecResult{}, ctx.Err()
	}
	if input == nil {
		input = []byte(strings.Join(command, " "))
	}
	return runtime.ExecResult{Stdout: input, Stderr: []byte("said")}, nil
}

// UpdateResources replaces the container's resources.
func (r *Runtime) UpdateResources(ctx context.Context, id string, change *runtimeapi.LinuxContainerResources) error {
	if err := r.before(ctx, "UpdateResources"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := find(r.containers, id)
	if err == nil {
		c.Resources = change
	}
	return err
}

// Stats has used a second of processor time and 3 MiB, of which 2 are its
// working set, and 1 MiB of disk.
func (r *Runtime) Stats(id string) (runtime.Stats, error) {
	c, err := r.Container(id)
	return runtime.Stats{
		Container: c, Time: time.Now(), DiskBytes: 1 << 20, Inodes: 4,
		Usage: runtime.Usage{CPU: time.Second, Processes: 1, Memory: 3 << 20, WorkingSet: 2 << 20, RSS: 2 << 20},
	}, err
}

// RunningStats are the Stats of those that run.
func (r *Runtime) RunningStats(want func(runtime.Container) bool) []runtime.Stats {
	var all []runtime.Stats
	for _, c := range r.Containers() {
		if st, err := r.Stats(c.ID); err == nil && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING && want(c) {
			all = append(all, st)
		}
	}
	return all
}

// NetworkStats are of two NICs.
func (r *Runtime) NetworkStats(_ context.Context, id string) ([]runtime.NICStats, error) {
	_, err := r.Sandbox(id)
	return []runtime.NICStats{{Name: "eth0", RxBytes: 5, TxBytes: 7}, {Name: "eth1"}}, err
}

// Events tells what is sent on Happened, until ctx ends.
func (r *Runtime) Events(ctx context.Context, f func(runtime.Event) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-r.Happened:
			if err := f(e); err != nil {
				return err
			}
		}
	}
}

// Conditions says that VMs run and that the network does not.
func (r *Runtime) Conditions(context.Context) []runtime.Condition {
	return []runtime.Condition{
		{Type: runtime.ConditionRuntimeReady, Status: true},
		{Type: runtime.ConditionNetworkReady, Reason: "CNINotReady", Message: "no network configuration in /etc/cni/net.d"},
	}
}

// Attach runs Console.
func (r *Runtime) Attach(ctx context.Context, id string, in io.Reader, out io.Writer) error {
	r.mu.Lock()
	c, err := find(r.containers, id)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if r.Console != nil {
		return r.Console(ctx, c.ended, in, out)
	}
	return Echo(ctx, c.ended, in, out)
}

// Echo is a console that repeats what is typed, until ctx or the VM ends.
func Echo(ctx context.Context, ended <-chan struct{}, in io.Reader, out io.Writer) error {
	if in != nil && out != nil {
		go func() { _, _ = io.Copy(out, in) }() // ends with the client
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return nil
	}
}

// DialPod runs Dial.
func (r *Runtime) DialPod(ctx context.Context, _ string, port int32) (net.Conn, error) {
	if r.Dial == nil {
		return nil, fmt.Errorf("dial tcp 10.1.2.3:%d: connection refused", port)
	}
	return r.Dial(ctx, port)
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
