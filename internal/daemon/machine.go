package daemon

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/runtime"
)

// find looks at the newest sandbox of a pod.
func (m machines) find(ctx context.Context, namespace, name string) (runtime.Look, error) {
	for _, s := range newest(m.Sandboxes()) {
		if meta := s.Config.GetMetadata(); meta.GetNamespace() == namespace && meta.GetName() == name {
			return m.Look(ctx, s.ID)
		}
	}
	return runtime.Look{}, fmt.Errorf("there is no VM pod %s/%s on this node: %w", namespace, name, errdefs.ErrNotFound)
}

// findVM is find for a pod that has a VM.
func (m machines) findVM(ctx context.Context, namespace, name string) (runtime.Look, error) {
	look, err := m.find(ctx, namespace, name)
	if err == nil && look.Container == nil {
		err = fmt.Errorf("pod %s/%s has no VM, or not yet: its image may be on its way, or was not found (kubectl describe pod): %w", namespace, name, errdefs.ErrFailedPrecondition)
	}
	return look, err
}

// bounded is for what asks QEMU.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, machinesTimeout)
}

// Get implements api.Machines.
func (m machines) Get(ctx context.Context, namespace, name string) (api.VMDetails, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	look, err := m.find(ctx, namespace, name)
	if err != nil {
		return api.VMDetails{}, err
	}
	d := api.VMDetails{VM: vmOf(look), NetnsPath: look.Sandbox.NetnsPath, Notes: []string{}, Interfaces: []api.Interface{}, Disks: []api.Disk{}}
	if look.Spec != nil {
		d.Container, d.Hostname, d.UUID = look.Spec.ContainerName, look.Spec.Hostname, look.Spec.UUID
	}
	if look.Container == nil {
		return d, nil
	}
	return d, m.addDetails(ctx, look, &d)
}

func (m machines) addDetails(ctx context.Context, look runtime.Look, d *api.VMDetails) error {
	found, err := m.Details(look.Container.ID)
	if err != nil {
		return err
	}
	d.Machine, d.PID, d.CgroupPath, d.LogPath = found.Machine, found.PID, found.CgroupPath, found.LogPath
	d.Config = found.Config
	d.Notes = append(d.Notes, found.Notes...)
	if found.PID > 0 {
		d.DebugSocket = found.DebugSocket
	}
	counters := m.counters(ctx, look.Sandbox.ID)
	for _, link := range found.Interfaces {
		d.Interfaces = append(d.Interfaces, interfaceOf(link, counters[link.Name]))
	}
	// A QEMU that hangs is seen in the state; the rest is told all the same.
	answers, _ := m.Ask(ctx, look.Container.ID)
	d.Disks = append(d.Disks, disksOf(answers)...)
	return nil
}

// counters are those of the pod's NICs by their names; none of a network that is
// gone.
func (m machines) counters(ctx context.Context, sandbox string) map[string]api.NICStats {
	all := map[string]api.NICStats{}
	stats, _ := m.NetworkStats(ctx, sandbox)
	for _, s := range stats {
		all[s.Name] = nicOf(s)
	}
	return all
}

// Do implements api.Machines.
func (m machines) Do(ctx context.Context, namespace, name string, verb api.Verb) (api.VM, error) {
	look, err := m.findVM(ctx, namespace, name)
	if err != nil {
		return api.VM{}, err
	}
	if err := m.do(ctx, look, verb); err != nil {
		return api.VM{}, fmt.Errorf("pod %s/%s: %w", namespace, name, err)
	}
	if look, err = m.Look(ctx, look.Sandbox.ID); err != nil {
		return api.VM{}, err
	}
	return vmOf(look), nil
}

func (m machines) do(ctx context.Context, look runtime.Look, verb api.Verb) error {
	id := look.Container.ID
	if verb == api.Destroy {
		m.Log.Info("a person destroys a VM", "container", id, "namespace", look.Sandbox.Config.GetMetadata().GetNamespace(), "pod", look.Sandbox.Config.GetMetadata().GetName())
		return m.StopContainer(ctx, id, 0)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	switch verb {
	case api.Shutdown:
		return m.PowerDown(ctx, id)
	case api.Reset:
		return m.Reset(ctx, id)
	case api.Suspend:
		return m.Suspend(ctx, id)
	case api.Resume:
		return m.Resume(ctx, id)
	}
	return fmt.Errorf("%q is none of %q: %w", verb, api.Verbs, errdefs.ErrInvalidArgument)
}

// Console implements api.Machines.
func (m machines) Console(ctx context.Context, namespace, name string) (func(context.Context, io.Reader, io.Writer) error, error) {
	look, err := m.findVM(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	switch state := stateOf(look); state {
	case api.StateCreated, api.StateStarting, api.StateExited, api.StateUnknown:
		return nil, fmt.Errorf("the VM of pod %s/%s is %s, only a running one has a console; what it has printed is in its log: %w", namespace, name, state, errdefs.ErrFailedPrecondition)
	}
	return func(ctx context.Context, in io.Reader, out io.Writer) error {
		return m.Attach(ctx, look.Container.ID, in, out)
	}, nil
}

// Dial implements api.Machines.
func (m machines) Dial(ctx context.Context, namespace, name string, port uint16) (net.Conn, error) {
	look, err := m.find(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	conn, err := m.DialPod(ctx, look.Sandbox.ID, int32(port))
	if err != nil {
		return nil, fmt.Errorf("port %d of pod %s/%s: %w", port, namespace, name, err)
	}
	return conn, nil
}
