package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// maxInjections bounds how many machines write files into root disks at the
// same time: each takes some 300 MiB of the node's memory.
const maxInjections = 4

// fillOverlay is what writes the pod's files into an overlay that is being made,
// nil if the pod has none.
func (r *Runtime) fillOverlay(ctx context.Context, spec *vmpod.VM, image images.Image) func(*os.File) error {
	if len(spec.Files) == 0 {
		return nil
	}
	return func(overlay *os.File) error {
		backing, err := os.Open(r.Images.DataPath(image.Digest))
		if err != nil {
			return err
		}
		defer backing.Close()
		return r.phase(ctx, PhaseInject, func(ctx context.Context) error {
			return r.inject(ctx, spec, disks.InjectTarget{
				Disk: overlay, Format: disks.QCow2, Backing: backing, BackingFormat: disks.Format(image.Format),
			})
		})
	}
}

// fillRootDevice is the same for a persistent root disk.
func (r *Runtime) fillRootDevice(spec *vmpod.VM) func(context.Context, disks.RootDisk, *os.File) error {
	if len(spec.Files) == 0 {
		return nil
	}
	return func(ctx context.Context, d disks.RootDisk, f *os.File) error {
		return r.phase(ctx, PhaseInject, func(ctx context.Context) error {
			return r.inject(ctx, spec, disks.InjectTarget{Disk: f, Format: disks.Raw, Offset: d.Offset, Length: d.Length})
		})
	}
}

// inject writes the pod's files, as root's.
func (r *Runtime) inject(ctx context.Context, spec *vmpod.VM, target disks.InjectTarget) error {
	state, err := r.Hypervisor.Ready(ctx)
	if err != nil {
		return err
	}
	select {
	case r.injections <- struct{}{}:
		defer func() { <-r.injections }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var files []disks.InjectFile
	for _, f := range spec.Files {
		files = append(files, disks.InjectFile{Path: f.Path, Data: f.Data})
	}
	done, err := disks.Inject(ctx, target, files, disks.InjectOptions{
		Binary: state.Capabilities.Binary, KVM: state.Accel.Accel == qemu.KVM, Credential: r.Credential,
	})
	if errors.Is(err, disks.ErrNoRootFilesystem) || errors.Is(err, disks.ErrNoKernel) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", vmpod.FilesAnnotation, err)
	}
	pod := &runtimeapi.PodSandboxMetadata{Namespace: spec.Namespace, Name: spec.Name, Uid: spec.UID}
	r.Log.With(LogPod(pod)...).Info("files were written into the root disk", "files", len(files),
		"partition", done.Partition, "filesystem", done.Filesystem)
	return nil
}
