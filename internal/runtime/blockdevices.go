package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
)

// addDevice adds an entry of volumeDevices.
func (v *volumes) addDevice(m *vm, d vmpod.Device) error {
	device, err := inspectDevice(d.HostPath)
	if err != nil {
		return err
	}
	disk := rawDisk(device, d.ReadOnly)
	disk.guest = d.ContainerPath
	if d.ContainerPath == vmpod.RootDevice {
		v.makePersistent(disk, device, m.record().ImageDigest)
		return nil
	}
	found := v.add(disk, strings.TrimPrefix(d.ContainerPath, "/dev/"), d.ContainerPath)
	v.seed.Devices = append(v.seed.Devices, cloudinit.DeviceLink{Disk: found, Path: d.ContainerPath})
	return nil
}

// makePersistent puts a device in the place of the overlay. The guest's disk
// is what follows the header.
func (v *volumes) makePersistent(d volumeDisk, device disks.Device, image string) {
	d.ID, d.Bus, d.Serial, d.BootIndex = rootDisk, v.bus, rootDisk, v.root.BootIndex
	d.Offset, d.Size = disks.RootOffset, device.Size/disks.RootOffset*disks.RootOffset-disks.RootOffset
	d.image = image
	v.root, v.persistent = d, true
}

// prepareRootDevice makes a device the VM's root disk, which may take as long
// as a copy of the image. What guests have written there stays if they have
// written it to a disk of the same image, and is gone otherwise.
func (r *Runtime) prepareRootDevice(ctx context.Context, v *vm, spec *vmpod.VM, path string, image images.Image) error {
	if err := r.claimRootDevice(v, path); err != nil {
		return err
	}
	// gofail: var containerRootDeviceClaimed struct{}
	digest, err := parseDigest(image.Digest)
	if err != nil {
		return err
	}
	disk, err := disks.PrepareRoot(ctx, path, disks.RootImage{
		Path: r.Images.DataPath(image.Digest), Digest: digest, VirtualSize: image.VirtualSize,
		Fill: r.fillRootDevice(spec),
	})
	var small *disks.TooSmallError
	var version *disks.RootVersionError
	if errors.Is(err, disks.ErrInUse) || errors.As(err, &small) || errors.As(err, &version) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return err
	}
	// gofail: var containerRootDevicePrepared struct{}
	return r.tellRootDevice(v, disk)
}

// claimRootDevice records that a device is the VM's root disk, unless it is
// another's.
func (r *Runtime) claimRootDevice(v *vm, path string) error {
	r.roots.Lock()
	defer r.roots.Unlock()
	for _, other := range r.allVMs() {
		rec := other.record()
		if other == v || rec.RootDevice != path || rec.Phase == store.ContainerExited || rec.Phase == store.ContainerRemoving {
			continue
		}
		return fmt.Errorf("persistent root %s: it is the root disk of container %s (%s) of pod %s: %w",
			path, other.id, rec.Phase, sandboxName(other.pod.config()), errdefs.ErrFailedPrecondition)
	}
	return r.updateVM(v, store.ContainerCreating, func(c *store.Container) { c.RootDevice = path })
}

// tellRootDevice says loudly, in the daemon's log and the pod's, that what was
// on a device is gone.
func (r *Runtime) tellRootDevice(v *vm, disk disks.RootDisk) error {
	var note string
	switch disk.Found {
	case disks.RootSame:
		return nil
	case disks.RootOther:
		note = fmt.Sprintf("persistent root: THE IMAGE HAS CHANGED from sha256:%x to sha256:%s: the disk on %s was made anew, and what guests had written to it is lost",
			disk.Previous, v.record().ImageDigest, disk.Path)
	default:
		note = fmt.Sprintf("persistent root: the image sha256:%s was written to %s, which held no finished root disk", v.record().ImageDigest, disk.Path)
	}
	r.vmLog(v).Warn(note)
	if disk.Found == disks.RootOther {
		r.tell(v.pod, NoticeRootReplaced, "%s", note)
	}
	return r.updateVM(v, store.ContainerCreating, func(c *store.Container) { c.Notes = append(slices.Clip(c.Notes), note) })
}

// checkRootDevice makes sure that the device still is what it was made.
func checkRootDevice(f *os.File, image string) error {
	digest, err := parseDigest(image)
	if err != nil {
		return err
	}
	head := make([]byte, disks.RootOffset)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("persistent root: %w", err)
	}
	state, _, err := disks.ReadRootHeader(head, digest)
	if err != nil {
		return fmt.Errorf("persistent root %s: %w", f.Name(), err)
	}
	if state != disks.RootSame {
		return fmt.Errorf("persistent root %s: something else has written to it since it was prepared (%s): %w", f.Name(), state, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func parseDigest(text string) (digest [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(digest) {
		return digest, fmt.Errorf("image digest %q: accepted is a SHA-256", text)
	}
	return [sha256.Size]byte(raw), nil
}
