package daemon

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/version"
)

// machines tells of the runtime's VMs in the words of the api socket.
type machines struct{ *runtime.Runtime }

// machinesTimeout bounds what QEMU is asked about one VM.
const machinesTimeout = 5 * time.Second

const (
	// lookTimeout is how long a QEMU may take to say whether its guest runs.
	lookTimeout = time.Second
	// looks is how many are asked at once.
	looks = 16
)

// Node implements api.Machines.
func (m machines) Node(ctx context.Context) api.Node {
	n := api.Node{Version: version.Number()}
	n.Hostname, _ = os.Hostname() // no machine lacks one
	for _, c := range m.Conditions(ctx) {
		n.Conditions = append(n.Conditions, api.Condition{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message})
	}
	return n
}

// List implements api.Machines: sorted by name, each pod once.
func (m machines) List(ctx context.Context) []api.VM {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	sandboxes := newest(m.Sandboxes())
	all := make([]api.VM, len(sandboxes))
	var g errgroup.Group
	g.SetLimit(looks)
	for i, s := range sandboxes {
		g.Go(func() error {
			if look, err := m.Look(ctx, s.ID); err == nil { // else it has just been removed
				all[i] = vmOf(look)
			}
			return nil
		})
	}
	_ = g.Wait() // which has no errors
	return slices.DeleteFunc(all, func(vm api.VM) bool { return vm.SandboxID == "" })
}

// newest are the sandboxes without those that have a successor, by the names of
// their pods.
func newest(all []runtime.Sandbox) []runtime.Sandbox {
	slices.SortFunc(all, func(a, b runtime.Sandbox) int {
		x, y := a.Config.GetMetadata(), b.Config.GetMetadata()
		return cmp.Or(cmp.Compare(x.GetNamespace(), y.GetNamespace()), cmp.Compare(x.GetName(), y.GetName()), b.CreatedAt.Compare(a.CreatedAt))
	})
	return slices.CompactFunc(all, func(a, b runtime.Sandbox) bool {
		x, y := a.Config.GetMetadata(), b.Config.GetMetadata()
		return x.GetNamespace() == y.GetNamespace() && x.GetName() == y.GetName()
	})
}

func vmOf(look runtime.Look) api.VM {
	meta := look.Sandbox.Config.GetMetadata()
	vm := api.VM{
		Namespace: meta.GetNamespace(), Name: meta.GetName(), UID: meta.GetUid(),
		SandboxID: look.Sandbox.ID, State: stateOf(look), IPs: []string{}, CreatedAt: look.Sandbox.CreatedAt,
	}
	for _, ip := range look.Sandbox.IPs {
		vm.IPs = append(vm.IPs, ip.String())
	}
	if spec := look.Spec; spec != nil {
		vm.VCPUs, vm.MemoryBytes = spec.VCPUs, spec.MemoryBytes
		vm.Image = cmp.Or(spec.UserImage, spec.Image)
	}
	if c := look.Container; c != nil {
		vm.ID, vm.Attempt = c.ID, c.Config.GetMetadata().GetAttempt()
		vm.Reason, vm.Message, vm.ExitCode = c.Reason, c.Message, c.ExitCode
		vm.StartedAt, vm.FinishedAt = c.StartedAt, c.FinishedAt
	}
	return vm
}

// phases are the states that follow from the phase alone.
var phases = map[store.ContainerPhase]api.State{
	"":                      api.StateNone,
	store.ContainerCreated:  api.StateCreated,
	store.ContainerStarting: api.StateStarting,
	store.ContainerStopping: api.StateStopping,
	store.ContainerExited:   api.StateExited,
	store.ContainerRemoving: api.StateExited,
}

func stateOf(look runtime.Look) api.State {
	if c := look.Container; c != nil && c.State == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
		return api.StateUnknown
	}
	if state, ok := phases[look.Phase]; ok {
		return state
	}
	switch look.RunState {
	case runtime.Suspended:
		return api.StateSuspended
	case "":
		return api.StateUnresponsive
	}
	return api.State(look.RunState) // running among them
}
