package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
)

// StopSandbox ends the pod's VMs by force and undoes its network. It is
// idempotent, also after an error; an unknown id is no error.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	p, err := r.pod(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = r.ops.join(ctx, "stop sandbox "+p.id, removeLimit, func(ctx context.Context) (string, error) {
		return "", r.stopSandbox(ctx, p)
	})
	return err
}

func (r *Runtime) stopSandbox(ctx context.Context, p *pod) error {
	stopped, err := r.intendStop(ctx, p)
	if stopped || err != nil {
		return err
	}
	// gofail: var sandboxStopping struct{}
	if err := r.killVMs(ctx, p); err != nil {
		return err
	}
	// gofail: var sandboxKilled struct{}
	return r.disconnectSandbox(ctx, p)
}

// intendStop makes the sandbox NOTREADY before anything is undone.
func (r *Runtime) intendStop(ctx context.Context, p *pod) (stopped bool, err error) {
	if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
		return false, err
	}
	defer p.lock.release()
	switch p.record().Phase {
	case store.SandboxStopped, store.SandboxRemoving:
		return true, nil
	case store.SandboxStopping:
		return false, nil
	}
	return false, r.updatePod(p, func(s *store.Sandbox) { s.Phase = store.SandboxStopping })
}

func (r *Runtime) killVMs(ctx context.Context, p *pod) error {
	var errs []error
	for _, v := range r.vmsOf(p) {
		errs = append(errs, r.stopVM(ctx, v, 0))
	}
	return errors.Join(errs...)
}

func (r *Runtime) disconnectSandbox(ctx context.Context, p *pod) error {
	if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
		return err
	}
	defer p.lock.release()
	if err := p.release(); err != nil {
		r.podLog(p).Warn("closing the pod's network", "error", err)
	}
	if err := r.teardown(ctx, p); err != nil {
		return fmt.Errorf("undoing the network of pod %s: %w", sandboxName(p.config()), err)
	}
	// gofail: var sandboxDisconnected struct{}
	return r.updatePod(p, func(s *store.Sandbox) { s.Phase, s.Network = store.SandboxStopped, nil })
}

// teardown undoes the pod's network, as far as there is one.
func (r *Runtime) teardown(ctx context.Context, p *pod) error {
	return r.phase(ctx, PhaseCNIDel, func(ctx context.Context) error {
		return r.Network.Teardown(ctx, networkRef(p.record()))
	})
}
