package runtime

import (
	"context"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qmp"
)

// RunState is QEMU's word for what a machine does: QAPI's RunState.
type RunState = qmp.RunState

// Suspended is the RunState of a guest that was suspended.
const Suspended RunState = qmp.RunStatePaused

// Look is a pod's VM as people see it.
type Look struct {
	Sandbox Sandbox
	// Container is nil while there is none.
	Container *Container
	// Phase is the container's, "" while there is none.
	Phase store.ContainerPhase
	// RunState is QEMU's word on a VM in the phase running, "" when it does not
	// answer.
	RunState RunState
	// Spec is the machine, nil when the pod cannot be read as one.
	Spec *vmpod.VM
}

// Look looks at a sandbox and its newest container, and asks QEMU, for as long as
// ctx allows, whether the guest runs.
func (r *Runtime) Look(ctx context.Context, sandboxID string) (Look, error) {
	p, err := r.pod(sandboxID)
	if err != nil {
		return Look{}, err
	}
	look := Look{Sandbox: r.sandboxOf(p)}
	v := r.newestVM(p)
	if v == nil {
		return look, nil
	}
	c := r.containerOf(v)
	look.Container, look.Phase = &c, v.record().Phase
	look.Spec, _ = vmpod.Parse(p.config(), c.Config) // what it cannot read it has said when the container was made
	if m, _, _ := v.running(); m != nil && m.Responsive() && look.Phase == store.ContainerRunning {
		if status, err := m.QMP().QueryStatus(ctx); err == nil {
			look.RunState = status.Status
		}
	}
	return look, nil
}

// newestVM is the pod's last container that others have been told of, nil if
// there is none.
func (r *Runtime) newestVM(p *pod) (newest *vm) {
	for _, v := range r.vmsOf(p) {
		rec := v.record()
		if rec.Phase != store.ContainerCreating && (newest == nil || rec.Created.After(newest.record().Created)) {
			newest = v
		}
	}
	return newest
}
