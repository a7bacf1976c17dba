package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
)

// RemoveSandbox stops the sandbox if need be, removes its containers and,
// when no other sandbox of the same pod is left, the pod's disks. It is
// idempotent; an unknown id is no error.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	p, err := r.pod(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := r.StopSandbox(ctx, p.id); err != nil {
		return err
	}
	_, err = r.ops.join(ctx, "remove sandbox "+p.id, removeLimit, func(ctx context.Context) (string, error) {
		return "", r.removeSandbox(ctx, p)
	})
	return err
}

func (r *Runtime) removeSandbox(ctx context.Context, p *pod) error {
	var errs []error
	for _, v := range r.vmsOf(p) {
		errs = append(errs, r.removeVM(ctx, v))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
		return err
	}
	defer p.lock.release()
	return r.deletePod(p)
}

// deletePod deletes the files of a stopped sandbox and then its record. The
// caller holds the lock.
func (r *Runtime) deletePod(p *pod) error {
	if err := r.updatePod(p, func(s *store.Sandbox) { s.Phase = store.SandboxRemoving }); err != nil {
		return err
	}
	// gofail: var sandboxRemoving struct{}
	r.dirs.Lock()
	defer r.dirs.Unlock()
	if r.lastOfPod(p) {
		if err := os.RemoveAll(r.podDir(p.uid())); err != nil {
			return fmt.Errorf("disks of pod %s: %w", sandboxName(p.config()), err)
		}
	}
	// gofail: var sandboxFilesRemoved struct{}
	return r.dropPod(p)
}

// lastOfPod tells whether no other sandbox shares the pod's disks.
func (r *Runtime) lastOfPod(p *pod) bool {
	for _, other := range r.allPods() {
		if other != p && other.uid() == p.uid() {
			return false
		}
	}
	return true
}
