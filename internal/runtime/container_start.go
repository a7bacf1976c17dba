package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
		return "", r.startVM(ctx, v)
	})
	return err
}

func (r *Runtime) startVM(ctx context.Context, v *vm) error {
	if v.record().Phase == store.ContainerRunning {
		return nil
	}
	if err := r.updateVM(v, store.ContainerStarting, nil); err != nil {
		return err
	}
	// gofail: var containerStarting struct{}
	m, err := r.launch(ctx, v)
	if err == nil {
		// gofail: var containerSpawned struct{}
		err = r.supervise(ctx, v, m)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start container %s: %w", v.id, err), r.failStart(ctx, v, err))
	}
	// gofail: var containerPaused struct{}
	if err := m.Cont(ctx); err != nil {
		// The watcher records the end, as of any running VM.
		return errors.Join(fmt.Errorf("start container %s: %w", v.id, err), m.Kill())
	}
	// gofail: var containerRunning struct{}
	return nil
}

// supervise opens the console and records the machine as running, which is
// what makes it ours. On an error the machine is dead.
func (r *Runtime) supervise(ctx context.Context, v *vm, m *qemu.Machine) error {
	c, err := r.openConsoles(v, m)
	if err == nil {
		err = r.recordRunning(v, m)
		if err != nil {
			err = errors.Join(err, c.release())
		}
	}
	if err != nil {
		return errors.Join(err, killNow(ctx, m))
	}
	v.setRunning(m, c)
	r.watch(v)
	return nil
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

// failStart cleans up behind a start that failed and records why.
func (r *Runtime) failStart(ctx context.Context, v *vm, cause error) error {
	ctx, cancel := undo(ctx)
	defer cancel()
	if err := r.clean(ctx, v); err != nil {
		// The cgroup's name is in the record, so the removal tries again.
		r.Log.Error("cleaning up behind a failed start", "container", v.id, "error", err)
	}
	return r.updateVM(v, store.ContainerExited, func(c *store.Container) {
		c.Finished, c.ExitCode, c.Reason, c.Message = time.Now(), exitStartError, reasonStartError, cause.Error()
		c.Process = nil
	})
}
