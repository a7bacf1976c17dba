package runtime

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
)

// machineOf returns the machine of a VM that runs and answers. What needs one is
// said in the error, of the class errdefs.ErrFailedPrecondition.
func (r *Runtime) machineOf(id, what string) (*vm, *qemu.Machine, error) {
	v, err := r.vm(id)
	if err != nil {
		return nil, nil, err
	}
	m, _, _ := v.running()
	switch phase := v.record().Phase; {
	case phase != store.ContainerRunning:
		return nil, nil, fmt.Errorf("%s: container %s is %s, only a running one can: %w", what, v.id, phase, errdefs.ErrFailedPrecondition)
	case m == nil || !m.Responsive():
		return nil, nil, fmt.Errorf("%s: the QEMU of container %s does not answer; it can be destroyed: %w", what, v.id, errdefs.ErrFailedPrecondition)
	}
	return v, m, nil
}

// Suspend stops the guest's processors (QMP stop). For kubelet it still runs;
// what probes it finds no answer. It is idempotent, and lasts over restarts of the
// daemon.
func (r *Runtime) Suspend(ctx context.Context, id string) error {
	v, m, err := r.machineOf(id, "suspend")
	if err != nil {
		return err
	}
	r.vmLog(v).Info("a person suspends a VM")
	return m.QMP().Stop(ctx)
}

// Resume lets a suspended guest go on (QMP cont). It is idempotent.
func (r *Runtime) Resume(ctx context.Context, id string) error {
	v, m, err := r.machineOf(id, "resume")
	if err != nil {
		return err
	}
	r.vmLog(v).Info("a person resumes a VM")
	return m.Cont(ctx)
}

// Reset presses the guest's reset button (QMP system_reset). The container goes
// on: neither its state nor its attempt changes. A suspended guest is resumed:
// QEMU would have it be as if it had never run, which it is not.
func (r *Runtime) Reset(ctx context.Context, id string) error {
	v, m, err := r.machineOf(id, "reset")
	if err != nil {
		return err
	}
	r.vmLog(v).Info("a person resets a VM")
	if err := m.QMP().SystemReset(ctx); err != nil {
		return err
	}
	return m.Cont(ctx)
}

// PowerDown presses the guest's power button once, and waits for nothing: a guest
// may take its time, or do nothing. A suspended one is resumed, to be able to obey.
// When it has powered off its container has exited (Completed).
func (r *Runtime) PowerDown(ctx context.Context, id string) error {
	v, m, err := r.machineOf(id, "shutdown")
	if err != nil {
		return err
	}
	r.vmLog(v).Info("a person presses the power button of a VM")
	if err := m.Cont(ctx); err != nil {
		return err
	}
	return m.PowerDown(ctx)
}
