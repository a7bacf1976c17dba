package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// CreateContainer makes the VM's disks and returns its id. The sandbox must
// be ready, its image pulled. The same request again gives the same
// container. On an error nothing is left.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, cfg *runtimeapi.ContainerConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	p, err := r.pod(sandboxID)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("create container %s (attempt %d) in sandbox %s", cfg.GetMetadata().GetName(), cfg.GetMetadata().GetAttempt(), p.id)
	return r.ops.join(ctx, key, createLimitOf(cfg), func(ctx context.Context) (string, error) {
		if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
			return "", err
		}
		defer p.lock.release()
		var id string
		err := r.phase(ctx, PhaseCreate, func(ctx context.Context) (err error) {
			id, err = r.createContainer(ctx, p, cfg)
			return err
		})
		return id, err
	})
}

// createLimitOf is longer for a VM whose root device may have to be written.
func createLimitOf(cfg *runtimeapi.ContainerConfig) time.Duration {
	for _, d := range cfg.GetDevices() {
		if path.Clean(d.GetContainerPath()) == vmpod.RootDevice {
			return prepareLimit
		}
	}
	return createLimit
}

func (r *Runtime) createContainer(ctx context.Context, p *pod, cfg *runtimeapi.ContainerConfig) (string, error) {
	if phase := p.record().Phase; phase != store.SandboxReady {
		return "", fmt.Errorf("sandbox %s is %s, a VM can only be made in a ready one: %w", p.id, phase, errdefs.ErrFailedPrecondition)
	}
	if id, err := r.sameContainer(ctx, p, cfg); id != "" || err != nil {
		return id, err
	}
	if err := r.checkRivals(p); err != nil {
		return "", err
	}
	spec, err := vmpod.Parse(p.config(), cfg)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	notes, err := r.takeSources(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("container %s: %w", cfg.GetMetadata().GetName(), err)
	}
	// Held until the record says that it is in use.
	image, release, err := r.Images.Acquire(ctx, cfg.GetImage().GetImage())
	if err != nil {
		return "", fmt.Errorf("container %s: %w", cfg.GetMetadata().GetName(), explainImage(err, cfg.GetImage()))
	}
	defer release()
	if image.Damaged != nil {
		return "", fmt.Errorf("container %s: image %s is damaged, remove it and pull it again: %w: %w",
			cfg.GetMetadata().GetName(), cfg.GetImage().GetImage(), image.Damaged, errdefs.ErrFailedPrecondition)
	}
	v, err := r.intendContainer(p, cfg, image, notes)
	if err != nil {
		return "", err
	}
	// gofail: var containerIntended struct{}
	traceVM(ctx, v)
	var made newDisks
	err = r.phase(ctx, PhaseDisks, func(ctx context.Context) (err error) {
		made, err = r.makeDisks(ctx, p, v, spec, image)
		return err
	})
	if err == nil {
		// gofail: var containerDisks struct{}
		err = r.updateVM(v, store.ContainerCreated, nil)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("container %s: %w", cfg.GetMetadata().GetName(), err), r.unmakeContainer(ctx, v, made))
	}
	// gofail: var containerCreated struct{}
	return v.id, nil
}

// explainImage says of an image that is not here why that may be: by its name
// kubelet may have pulled it for containers.
func explainImage(err error, image *runtimeapi.ImageSpec) error {
	if !errdefs.IsNotFound(err) {
		return err
	}
	return fmt.Errorf("image %q is not among this node's images for VMs: such a one has a name that begins with %s, "+
		"or its pod has the annotation kubernetes.io/target-runtime: virtlet.cloud: %w", cmp.Or(image.GetUserSpecifiedImage(), image.GetImage()), images.Prefix, err)
}

// unmakeContainer undoes a container that was not made, and those of the pod's
// disks that were made for this one.
func (r *Runtime) unmakeContainer(ctx context.Context, v *vm, made newDisks) error {
	ctx, cancel := undo(ctx)
	defer cancel()
	if made.root {
		if err := r.removeRoot(v.pod); err != nil {
			return err
		}
	}
	for _, path := range made.volumes {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return r.giveUpContainer(ctx, v)
}

// checkRivals refuses a second machine on the pod's root disk: an older
// sandbox of the same pod may have one that did not end yet.
func (r *Runtime) checkRivals(p *pod) error {
	for _, v := range r.allVMs() {
		if v.pod != p && v.pod.uid() == p.uid() && v.live() {
			return fmt.Errorf("pod %s: container %s of its earlier sandbox %s is still %s: %w",
				sandboxName(p.config()), v.id, v.pod.id, v.record().Phase, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// sameContainer finds what an earlier request has made, and refuses what
// cannot stand beside what is there: a pod has one VM at a time. An attempt
// that never started gives way to the next one: kubelet does not stop it.
func (r *Runtime) sameContainer(ctx context.Context, p *pod, cfg *runtimeapi.ContainerConfig) (string, error) {
	for _, v := range r.vmsOf(p) {
		rec := v.record()
		have, want := rec.Config.M.GetMetadata(), cfg.GetMetadata()
		if rec.Phase == store.ContainerCreating {
			// Creations hold the lock: this one failed, and so did its undoing.
			if err := r.giveUpContainer(ctx, v); err != nil {
				return "", err
			}
			continue
		}
		switch {
		case have.GetName() != want.GetName():
			return "", fmt.Errorf("container %q of pod %s: a VM pod has exactly one container, which is %q; put the others into a pod of their own: %w",
				want.GetName(), sandboxName(p.config()), have.GetName(), errdefs.ErrInvalidArgument)
		case have.GetAttempt() == want.GetAttempt() && rec.Phase == store.ContainerCreated && proto.Equal(rec.Config.M, cfg):
			return v.id, nil
		case have.GetAttempt() == want.GetAttempt():
			return "", fmt.Errorf("container %q, attempt %d, of pod %s exists already, it is %s and has the id %s: %w",
				want.GetName(), want.GetAttempt(), sandboxName(p.config()), rec.Phase, v.id, errdefs.ErrAlreadyExists)
		case rec.Phase == store.ContainerCreated:
			if err := r.retire(v, fmt.Sprintf("never started, replaced by attempt %d", want.GetAttempt())); err != nil {
				return "", err
			}
		case rec.Phase != store.ContainerExited && rec.Phase != store.ContainerRemoving:
			return "", fmt.Errorf("container %q, attempt %d, of pod %s: attempt %d (id %s) is still %s: %w",
				want.GetName(), want.GetAttempt(), sandboxName(p.config()), have.GetAttempt(), v.id, rec.Phase, errdefs.ErrFailedPrecondition)
		}
	}
	return "", nil
}

func (r *Runtime) intendContainer(p *pod, cfg *runtimeapi.ContainerConfig, image images.Image, notes []string) (*vm, error) {
	id := ids.New()
	rec := &store.Container{
		ID:          id,
		SandboxID:   p.id,
		Phase:       store.ContainerCreating,
		Config:      store.Message[*runtimeapi.ContainerConfig]{M: cfg},
		ImageID:     image.ID,
		ImageDigest: image.Digest,
		Created:     time.Now(),
		CgroupPath:  cgroupPath(p.config(), id),
		Notes:       notes,
	}
	if err := r.DB.PutContainer(rec); err != nil {
		return nil, err
	}
	v := newVM(p, rec)
	r.addVM(v)
	return v, nil
}

// cgroupPath is a cgroup of the VM's own below the pod's, where kubelet wants
// its processes. People who use crictl often name none.
func cgroupPath(cfg *runtimeapi.PodSandboxConfig, id string) string {
	name := "qemulet-" + ids.Short(id)
	if parent := cfg.GetLinux().GetCgroupParent(); parent != "" {
		return qemu.CgroupPath(parent, name)
	}
	return "/" + name
}

// giveUpContainer undoes a container that was not made. The caller holds the
// pod's lock.
func (r *Runtime) giveUpContainer(ctx context.Context, v *vm) error {
	if err := r.deleteVMFiles(ctx, v); err != nil {
		return err
	}
	return r.dropVM(v)
}

// logPath is the absolute path of the container's log, "" for none.
func logPath(s *runtimeapi.PodSandboxConfig, c *runtimeapi.ContainerConfig) string {
	if s.GetLogDirectory() == "" || c.GetLogPath() == "" {
		return ""
	}
	return filepath.Join(s.GetLogDirectory(), c.GetLogPath())
}
