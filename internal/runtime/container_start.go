package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/internal/console"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
)

// StartContainer boots the VM: QEMU is spawned paused, checked, recorded, and
// then continued. A container that runs already is left alone. When the start
// fails the container is EXITED with the reason StartError.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	_, err = r.ops.join(ctx, "start container "+v.id, startLimit, func(ctx context.Context) (string, error) {
		if err := v.pod.lock.acquire(ctx, "container "+v.id); err != nil {
			return "", err
		}
		defer v.pod.lock.release()
		if v.record().Phase == store.ContainerRunning {
			return "", nil
		}
		return "", r.phase(ctx, PhaseStart, func(ctx context.Context) error { return r.startVM(ctx, v) })
	})
	return err
}

func (r *Runtime) startVM(ctx context.Context, v *vm) error {
	traceVM(ctx, v)
	if err := checkTransition(v.id, v.record().Phase, store.ContainerStarting); err != nil {
		return err
	}
	if err := r.boot(ctx, v); err != nil {
		ctx, cancel := undo(ctx)
		defer cancel()
		return errors.Join(fmt.Errorf("start container %s: %w", v.id, err), r.failStart(ctx, v, err))
	}
	// gofail: var containerRunning struct{}
	return nil
}

// boot goes from a created VM to a running guest. On an error there is no
// machine, and what it left is found through the record.
func (r *Runtime) boot(ctx context.Context, v *vm) error {
	if err := r.checkPod(ctx, v); err != nil {
		return err
	}
	plan, err := r.plan(ctx, v)
	if err != nil {
		return err
	}
	err = r.updateVM(v, store.ContainerStarting, func(c *store.Container) { c.Machine = plan.inv.Machine })
	if err != nil {
		return err
	}
	// gofail: var containerStarting struct{}
	m, log, err := r.launchAndLog(ctx, v, plan)
	if err != nil {
		return err
	}
	// gofail: var containerSpawned struct{}
	c, err := r.supervise(ctx, v, m, log, slices.Concat(plan.spec.Notes, v.record().Notes, plan.volumes.notes))
	if err != nil {
		return errors.Join(err, killNow(ctx, m))
	}
	v.setRunning(m, c)
	r.watch(v)
	return nil
}

// launchAndLog spawns the machine and, while QEMU loads, writes its
// description and opens its log. On an error both are gone.
func (r *Runtime) launchAndLog(ctx context.Context, v *vm, plan *plan) (m *qemu.Machine, log *console.Log, err error) {
	var g errgroup.Group
	g.Go(func() (err error) {
		m, err = r.launch(ctx, v, plan)
		return err
	})
	g.Go(func() (err error) {
		if err = r.writeConfigJSON(v, plan); err == nil {
			log, err = r.openLog(v, func() { r.firstWord(ctx, v) })
		}
		return err
	})
	if err = g.Wait(); err == nil {
		return m, log, nil
	}
	if m != nil {
		err = errors.Join(err, killNow(ctx, m))
	}
	if log != nil {
		err = errors.Join(err, log.Close())
	}
	return nil, nil, err
}

// checkPod sees to it that the VM has a network to be on, and its disk to itself.
func (r *Runtime) checkPod(ctx context.Context, v *vm) error {
	p := v.pod
	if phase := p.record().Phase; phase != store.SandboxReady {
		return fmt.Errorf("sandbox %s is %s, a VM can only be started in a ready one: %w", p.id, phase, errdefs.ErrFailedPrecondition)
	}
	if err := r.checkRivals(p); err != nil {
		return err
	}
	if p.network() != nil {
		return nil
	}
	// It could not be opened when this daemon started.
	return r.openNetwork(ctx, p)
}

// supervise opens the consoles, records the machine as running, which is what
// makes it ours, and lets the guest run. On an error the machine is still
// there, and nothing else.
func (r *Runtime) supervise(ctx context.Context, v *vm, m *qemu.Machine, log *console.Log, notes []string) (*consoles, error) {
	c := r.openConsoles(v, log)
	err := r.openDebug(v, c, m)
	if err == nil {
		r.writeNotes(v, c, notes)
		err = r.recordRunning(v, m)
	}
	if err == nil {
		// gofail: var containerPaused struct{}
		err = m.Cont(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.release())
	}
	return c, nil
}

// writeNotes says in the VM's log what of its manifest has no effect. A VM
// starts once, so it is said once.
func (r *Runtime) writeNotes(v *vm, c *consoles, notes []string) {
	for _, note := range notes {
		if err := c.log.Note(note); err != nil {
			r.vmLog(v).Warn("note in a VM's log", "error", err)
			return
		}
	}
}

func (r *Runtime) recordRunning(v *vm, m *qemu.Machine) error {
	identity, err := json.Marshal(m.Identity())
	if err != nil {
		return err
	}
	return r.updateVM(v, store.ContainerRunning, func(c *store.Container) {
		c.Process, c.Started = identity, time.Now()
	})
}

func killNow(ctx context.Context, m *qemu.Machine) error {
	ctx, cancel := undo(ctx)
	defer cancel()
	return errors.Join(m.Stop(ctx, 0), m.Close())
}

// failStart cleans up behind a start that failed, killing whatever is in the
// VM's cgroup, and records why. The caller holds the pod's lock.
func (r *Runtime) failStart(ctx context.Context, v *vm, cause error) error {
	if err := r.clean(ctx, v); err != nil {
		// The cgroup's name is in the record, so the removal tries again.
		r.vmLog(v).Error("cleaning up behind a failed start", "error", err)
	}
	return r.endVM(v, func(c *store.Container) {
		c.Finished, c.ExitCode, c.Reason, c.Message = time.Now(), exitStartError, reasonStartError, cause.Error()
	})
}
