package runtime

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
)

// RemoveContainer ends the VM by force if need be and deletes what belongs to
// it, except the pod's root disk, which goes with the pod, and the CRI log,
// which is kubelet's. It is idempotent; an unknown id is no error.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	v, err := r.vm(id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = r.ops.join(ctx, "remove container "+v.id, removeLimit, func(ctx context.Context) (string, error) {
		return "", r.removeVM(ctx, v)
	})
	return err
}

func (r *Runtime) removeVM(ctx context.Context, v *vm) error {
	if err := r.stopVM(ctx, v, 0); err != nil {
		return err
	}
	if err := r.deleteVM(ctx, v); err != nil {
		return err
	}
	r.freeImages(ctx)
	return nil
}

// deleteVM deletes a container that has ended, and its record last.
func (r *Runtime) deleteVM(ctx context.Context, v *vm) error {
	if err := v.pod.lock.acquire(ctx, "container "+v.id); err != nil {
		return err
	}
	defer v.pod.lock.release()
	if !r.knowsVM(v) {
		return nil // another removal was faster
	}
	if err := r.updateVM(v, store.ContainerRemoving, nil); err != nil {
		return err
	}
	// gofail: var containerRemoving struct{}
	if err := r.deleteVMFiles(ctx, v); err != nil {
		return err
	}
	// gofail: var containerFilesRemoved struct{}
	return r.dropVM(v)
}

// freeImages deletes images that have lost their name and their last disk.
func (r *Runtime) freeImages(ctx context.Context) {
	if err := r.Images.GC(ctx); err != nil {
		r.Log.Warn("freeing images that no VM uses any more", "error", err)
	}
}

// deleteVMFiles deletes everything that is named after the container, with
// what an earlier clean-up may have failed to.
func (r *Runtime) deleteVMFiles(ctx context.Context, v *vm) error {
	err := r.clean(ctx, v)
	if err == nil {
		err = os.RemoveAll(r.vmDir(v.pod.uid(), v.id))
	}
	if err != nil {
		return fmt.Errorf("files of container %s: %w", v.id, err)
	}
	return nil
}
