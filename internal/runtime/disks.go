package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

func (r *Runtime) rootPath(uid string) string { return filepath.Join(r.podDir(uid), rootFile) }

// newDisks are files of the pod that were made for one attempt of its VM, and
// go with it if it is not made.
type newDisks struct {
	root    bool
	volumes []string
}

// makeDisks makes the pod's root disk and volumes, unless it has them, and the
// VM's own files. They do not depend on each other. What was made is returned
// also on an error.
func (r *Runtime) makeDisks(ctx context.Context, p *pod, v *vm, spec *vmpod.VM, image images.Image) (made newDisks, err error) {
	vols, err := r.volumesOf(v, spec)
	if err == nil {
		err = r.checkRBD(ctx, vols)
	}
	if err != nil {
		return made, err
	}
	if err := os.MkdirAll(r.vmDir(p.uid(), v.id), 0o700); err != nil {
		return made, err
	}
	var g errgroup.Group
	g.Go(func() (err error) {
		if vols.persistent {
			return r.prepareRootDevice(ctx, v, spec, vols.root.path, image)
		}
		made.root, err = r.makeRoot(ctx, p, v, spec, image)
		return err
	})
	g.Go(func() (err error) {
		made.volumes, err = r.makeVolumes(ctx, p, vols)
		return err
	})
	g.Go(func() error {
		return r.phase(ctx, PhaseSeed, func(context.Context) error { return r.makeSeed(p, v, spec, vols) })
	})
	g.Go(func() error { return r.makeConsoleFile(p, v) })
	err = g.Wait()
	return made, err
}

// makeRoot makes the overlay that the VM writes to. One that is there belongs
// to an earlier attempt of the same VM, which boots its own disk again; only
// when the manifest names another image is it made anew.
func (r *Runtime) makeRoot(ctx context.Context, p *pod, v *vm, spec *vmpod.VM, image images.Image) (made bool, err error) {
	base, err := r.rootBase(r.rootPath(p.uid()))
	if err != nil {
		return false, err
	}
	if base != "" && r.imageChanged(p, v) {
		if err := r.removeRoot(p); err != nil {
			return false, err
		}
		base = ""
	}
	if base != "" {
		return false, r.recordBase(p, base)
	}
	// Before the disk: there must never be one whose image could be deleted.
	if err := r.recordBase(p, image.Digest); err != nil {
		return false, err
	}
	// gofail: var containerRootIntended struct{}
	return r.createRoot(ctx, p, spec, image)
}

// recordBase records the image below the root disk, which keeps it from being deleted.
func (r *Runtime) recordBase(p *pod, base string) error {
	if p.record().Base == base {
		return nil
	}
	return r.updatePod(p, func(s *store.Sandbox) { s.Base = base })
}

func (r *Runtime) createRoot(ctx context.Context, p *pod, spec *vmpod.VM, image images.Image) (made bool, err error) {
	if err := r.sweepUnfinished(p, rootFile); err != nil {
		return false, err
	}
	err = disks.CreateOverlay(r.rootPath(p.uid()), disks.Overlay{
		Backing:       r.Images.DataPath(image.Digest),
		BackingFormat: disks.Format(image.Format),
		VirtualSize:   disks.RootSize(image.VirtualSize, spec.RootVolumeSize),
		Fill:          r.fillOverlay(ctx, spec, image),
	})
	if err != nil {
		return false, fmt.Errorf("root disk: %w", err)
	}
	return true, nil
}

// sweepUnfinished deletes what a daemon that died while it made a disk has left.
func (r *Runtime) sweepUnfinished(p *pod, file string) error {
	left, err := filepath.Glob(filepath.Join(r.podDir(p.uid()), "."+file+".*.new"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("unfinished disk: %w", err)
	}
	return nil
}

// removeRoot deletes the root disk, and then lets go of its image.
func (r *Runtime) removeRoot(p *pod) error {
	if err := os.Remove(r.rootPath(p.uid())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("root disk: %w", err)
	}
	return r.recordBase(p, "")
}

// rootBase is the digest of the image below an existing root disk, "" when
// there is no disk.
func (r *Runtime) rootBase(path string) (string, error) {
	image, err := inspectRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return filepath.Base(image.BackingFile), nil
}

// inspectRoot reads what a root disk says of the image below it.
func inspectRoot(path string) (disks.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return disks.Image{}, fmt.Errorf("root disk: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return disks.Image{}, fmt.Errorf("root disk: %w", err)
	}
	image, err := disks.Inspect(f, info.Size())
	if err != nil {
		return disks.Image{}, fmt.Errorf("root disk %s: %w", path, err)
	}
	return image, nil
}

// readBacking takes the format of the image below from the root disk, if it is
// over an image.
func (d *volumeDisk) readBacking() error {
	if len(d.Backing) == 0 {
		return nil
	}
	root, err := inspectRoot(d.path)
	if err != nil {
		return err
	}
	d.Backing = []qemu.Backing{{Format: qemu.Format(root.BackingFormat)}}
	return nil
}

// imageChanged tells whether the manifest named another image for the VM's
// previous attempt. That a name means another image by now does not count.
func (r *Runtime) imageChanged(p *pod, v *vm) bool {
	var latest *store.Container
	for _, other := range r.allVMs() {
		rec := other.record()
		if other == v || other.pod.uid() != p.uid() {
			continue
		}
		if latest == nil || rec.Created.After(latest.Created) {
			latest = rec
		}
	}
	return latest != nil && imageName(latest) != imageName(v.record())
}

// imageName is the image as the manifest's author wrote it.
func imageName(c *store.Container) string {
	image := c.Config.M.GetImage()
	if name := image.GetUserSpecifiedImage(); name != "" {
		return name
	}
	return image.GetImage()
}

// makeSeed writes the cloud-init disk.
func (r *Runtime) makeSeed(p *pod, v *vm, spec *vmpod.VM, vols *volumes) error {
	copies, err := vols.readCopies()
	if err != nil {
		return err
	}
	seed := seedOf(p, spec, vols, copies)
	files, err := seed.Render()
	if err != nil {
		return fmt.Errorf("cloud-init disk: %w", err)
	}
	path := filepath.Join(r.vmDir(p.uid(), v.id), seedFile)
	if err := cloudinit.CreateISO(path, seed.Type.Label(), files); err != nil {
		return fmt.Errorf("cloud-init disk: %w", err)
	}
	return nil
}

// makeConsoleFile makes the file that QEMU appends the console to, and with
// it checks early that the log can be written.
func (r *Runtime) makeConsoleFile(p *pod, v *vm) error {
	f, err := os.OpenFile(filepath.Join(r.vmDir(p.uid(), v.id), consoleFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("console file: %w", err)
	}
	return f.Close()
}
