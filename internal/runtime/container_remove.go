package runtime

import (
	"context"
	"errors"
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
	if err := v.pod.lock.acquire(ctx, "container "+v.id); err != nil {
		return err
	}
	defer v.pod.lock.release()
	if _, err := r.vm(v.id); err != nil {
		return nil // another removal was faster
	}
	if err := r.updateVM(v, store.ContainerRemoving, nil); err != nil {
		return err
	}
	// gofail: var containerRemoving struct{}
	if err := r.deleteVMFiles(v); err != nil {
		return err
	}
	// gofail: var containerFilesRemoved struct{}
	if err := r.dropVM(v); err != nil {
		return err
	}
	if err := r.Images.GC(ctx); err != nil {
		r.Log.Warn("freeing images that no VM uses any more", "error", err)
	}
	return nil
}

// deleteVMFiles deletes everything that is named after the container.
func (r *Runtime) deleteVMFiles(v *vm) error {
	err := errors.Join(
		os.RemoveAll(r.runDir(v.id)),
		os.RemoveAll(r.vmDir(v.pod.uid(), v.id)),
	)
	if err != nil {
		return fmt.Errorf("files of container %s: %w", v.id, err)
	}
	return nil
}
