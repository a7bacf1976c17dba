package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/ids"
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
	if err := r.deletePod(ctx, p); err != nil {
		return err
	}
	r.freeImages(ctx)
	return nil
}

// deletePod deletes the files of a stopped sandbox and then its record.
func (r *Runtime) deletePod(ctx context.Context, p *pod) error {
	if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
		return err
	}
	defer p.lock.release()
	if !r.knowsPod(p) {
		return nil // another removal was faster
	}
	if err := r.updatePod(p, func(s *store.Sandbox) { s.Phase = store.SandboxRemoving }); err != nil {
		return err
	}
	// gofail: var sandboxRemoving struct{}
	trash, err := r.detachFiles(p)
	if err == nil {
		// gofail: var sandboxFilesDetached struct{}
		err = os.RemoveAll(trash)
	}
	if err != nil {
		return fmt.Errorf("disks of pod %s: %w", sandboxName(p.config()), err)
	}
	// gofail: var sandboxFilesRemoved struct{}
	return r.dropPod(p)
}

// detachFiles moves the pod's directory out of the reach of sandboxes to come,
// unless one is there that shares it, and returns where to: a name that the
// record tells. Deleting it may take long, and nobody has to wait for that.
func (r *Runtime) detachFiles(p *pod) (trash string, err error) {
	trash = r.podDir(".removed-" + ids.Short(p.id))
	r.dirs.Lock()
	defer r.dirs.Unlock()
	if !r.lastOfPod(p) {
		return trash, nil
	}
	err = os.Rename(r.podDir(p.uid()), trash)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // no disk was made, or an earlier removal got as far as this
	}
	return trash, err
}

// lastOfPod tells whether no other sandbox needs the pod's disks.
func (r *Runtime) lastOfPod(p *pod) bool {
	for _, other := range r.allPods() {
		if other != p && other.uid() == p.uid() && other.record().Phase != store.SandboxRemoving {
			return false
		}
	}
	return true
}
