package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/flexvolume"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// flexMount is a FlexVolume as it may be mounted.
type flexMount struct {
	disk     cloudinit.Disk
	index    int // among the disks
	readOnly bool
}

// addFlexVolumes adds all FlexVolumes of the pod, mounted or not, in the order
// of their names.
func (r *Runtime) addFlexVolumes(v *vm, vols *volumes) error {
	list, err := flexvolume.List(flexvolume.PodDir(r.KubeletPods, v.pod.uid()))
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	vols.flex = map[string]flexMount{}
	for _, fv := range list {
		disk, err := r.flexDisk(v, fv)
		if err != nil {
			return fmt.Errorf("flexvolume %q: %w", fv.Name, err)
		}
		disk.ReadOnly = disk.ReadOnly || fv.ReadOnly
		disk.guest = "flexvolume " + fv.Name
		found := vols.add(disk, fv.Name, disk.guest)
		found.Part = fv.Part
		vols.flex[fv.Dir] = flexMount{disk: found, index: len(vols.disks) - 1, readOnly: disk.ReadOnly}
	}
	return nil
}

func (r *Runtime) flexDisk(v *vm, fv flexvolume.Volume) (volumeDisk, error) {
	switch fv.Type {
	case flexvolume.Raw:
		return r.rawVolume(fv)
	case flexvolume.Ceph:
		return cephVolume(fv.RBD), nil
	}
	return r.ownVolume(v, fv)
}

// ownVolume is a volume that is made for the pod and goes with it.
func (r *Runtime) ownVolume(v *vm, fv flexvolume.Volume) (volumeDisk, error) {
	capacity := disks.DefaultCapacity
	if fv.Capacity != "" {
		var err error
		if capacity, err = disks.ParseCapacity(fv.Capacity); err != nil {
			return volumeDisk{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	// The serial number, because the name of a volume may be as long as a
	// file's may.
	path := filepath.Join(r.podDir(v.pod.uid()), "volume-"+cloudinit.Serial(fv.Name)+".qcow2")
	return volumeDisk{path: path, capacity: capacity, Disk: qemu.Disk{Format: qemu.FormatQCow2}}, nil
}

// rawVolume is a device of the host that the node's owner has allowed.
func (r *Runtime) rawVolume(fv flexvolume.Volume) (volumeDisk, error) {
	if err := r.adjustable().RawDevices.Check(fv.Path); err != nil {
		return volumeDisk{}, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	device, err := inspectDevice(fv.Path)
	if err == nil && !device.Block {
		err = fmt.Errorf("raw device %q: it is a file, accepted is a block device: %w", fv.Path, errdefs.ErrInvalidArgument)
	}
	return rawDisk(device, fv.ReadOnly), err
}

// cephVolume is a disk in a Ceph cluster, which QEMU itself connects to.
func cephVolume(rbd flexvolume.RBD) volumeDisk {
	return volumeDisk{key: rbd.Key, Disk: qemu.Disk{Format: qemu.FormatRaw, RBD: &qemu.RBD{
		Monitor: rbd.Monitor.String(), Pool: rbd.Pool, Image: rbd.Volume, User: rbd.User,
	}}}
}

// mountDisk has the guest mount a FlexVolume.
func (v *volumes) mountDisk(f flexMount, m vmpod.Mount) error {
	v.disks[f.index].guest = m.ContainerPath
	return v.mountAt(cloudinit.Mount{Disk: f.disk, Path: m.ContainerPath, ReadOnly: m.ReadOnly || f.readOnly})
}

// makeVolumes makes the volumes that belong to the pod and are not there yet.
// made are their files, also on an error.
func (r *Runtime) makeVolumes(ctx context.Context, p *pod, vols *volumes) (made []string, err error) {
	for _, d := range vols.disks {
		if d.capacity == 0 {
			continue
		}
		isNew, err := r.makeVolume(ctx, p, d)
		if err != nil {
			return made, fmt.Errorf("%s: %w", d.guest, err)
		}
		if isNew {
			made = append(made, d.path)
		}
	}
	return made, nil
}

func (r *Runtime) makeVolume(ctx context.Context, p *pod, d volumeDisk) (made bool, err error) {
	if _, err := os.Lstat(d.path); !errors.Is(err, fs.ErrNotExist) {
		return false, err // nil: an earlier attempt's, with its data
	}
	if err := r.sweepUnfinished(p, filepath.Base(d.path)); err != nil {
		return false, err
	}
	// gofail: var containerVolumeIntended struct{}
	if err := disks.CreateVolume(ctx, d.path, d.capacity); err != nil {
		return false, err
	}
	// gofail: var containerVolumeMade struct{}
	return true, nil
}
