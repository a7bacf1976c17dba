package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
)

// StopContainer presses the guest's power button, and ends the VM by force
// when it is still there after timeout; 0 means at once. It returns when the
// VM is dead and its end recorded. It is idempotent, and a second call with
// less time left speeds up the first; an unknown id is no error.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout time.Duration) error {
	v, err := r.vm(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.stopVM(ctx, v, timeout)
}

// stopVM waits without the pod's lock, so that a guest that takes its time
// holds up nobody, least of all who wants to end it by force.
func (r *Runtime) stopVM(ctx context.Context, v *vm, timeout time.Duration) error {
	if err := r.intendStopVM(ctx, v, timeout); err != nil {
		return err
	}
	m, _, exited := v.running()
	if m == nil {
		return r.reap(ctx, v)
	}
	// gofail: var containerStopping struct{}
	return r.phase(ctx, PhaseStop, func(ctx context.Context) error { return stopMachine(ctx, v, m, exited, timeout) })
}

// stopMachine ends a machine and waits for the record of its end.
func stopMachine(ctx context.Context, v *vm, m *qemu.Machine, exited <-chan struct{}, timeout time.Duration) error {
	err := m.Stop(ctx, timeout)
	if errors.Is(err, qemu.ErrClosed) {
		return fmt.Errorf("stop container %s: the daemon is shutting down: %w", v.id, errdefs.ErrUnavailable)
	}
	if err != nil {
		return fmt.Errorf("stop container %s: %w", v.id, err)
	}
	select {
	case <-exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop container %s: %w", v.id, context.Cause(ctx))
	}
}

// reap ends a VM that is recorded as running but not supervised, because its
// adoption failed: whatever is in its cgroup is killed.
func (r *Runtime) reap(ctx context.Context, v *vm) error {
	if err := v.pod.lock.acquire(ctx, "container "+v.id); err != nil {
		return err
	}
	defer v.pod.lock.release()
	if m, _, _ := v.running(); m != nil || v.record().Phase != store.ContainerStopping {
		return nil // it has ended meanwhile, or there was nothing to stop
	}
	// First, because this is what ends it.
	if err := r.clean(ctx, v); err != nil {
		return err
	}
	return r.recordLost(ctx, v, exit{exitKilled, reasonUnknown, "the VM could not be adopted and was ended by force"}, time.Now())
}

// retire ends a container that has never run. The caller holds the pod's lock.
func (r *Runtime) retire(v *vm, why string) error {
	return r.updateVM(v, store.ContainerExited, func(c *store.Container) {
		c.Finished, c.ExitCode, c.Reason, c.Message = time.Now(), exitKilled, reasonStopped, why
	})
}

// intendStopVM records the stop before the power button is pressed. A
// container that never ran has nothing to stop.
func (r *Runtime) intendStopVM(ctx context.Context, v *vm, timeout time.Duration) error {
	if err := v.pod.lock.acquire(ctx, "container "+v.id); err != nil {
		return err
	}
	defer v.pod.lock.release()
	stopBy := time.Now().Add(timeout)
	switch rec := v.record(); rec.Phase {
	case store.ContainerRunning:
	case store.ContainerStopping:
		if !stopBy.Before(rec.StopBy) {
			return nil
		}
	case store.ContainerCreated:
		return r.retire(v, "stopped before it was started")
	case store.ContainerStarting:
		// Starts hold the lock: this one is over, and could not be recorded.
		return r.failStart(ctx, v, errors.New("the start was cut off"))
	default:
		return nil
	}
	return r.updateVM(v, store.ContainerStopping, func(c *store.Container) { c.StopBy = stopBy })
}
