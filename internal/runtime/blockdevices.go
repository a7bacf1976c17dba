package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// addDevices adds the pod's volumeDevices.
func (v *volumes) addDevices(devices []vmpod.Device) error {
	for _, d := range devices {
		if d.ContainerPath == vmpod.RootDevice {
			return fmt.Errorf("volume device /: a persistent root file system is not supported yet by this version: %w", errdefs.ErrInvalidArgument)
		}
		if err := v.addDevice(d); err != nil {
			return fmt.Errorf("volume device %s: %w", d.ContainerPath, err)
		}
	}
	return nil
}

func (v *volumes) addDevice(d vmpod.Device) error {
	device, err := inspectDevice(d.HostPath)
	if err != nil {
		return err
	}
	disk := rawDisk(device, d.ReadOnly)
	disk.guest = d.ContainerPath
	found := v.add(disk, strings.TrimPrefix(d.ContainerPath, "/dev/"), d.ContainerPath)
	v.seed.Devices = append(v.seed.Devices, cloudinit.DeviceLink{Disk: found, Path: d.ContainerPath})
	return nil
}

// inspectDevice looks at a device that a manifest names.
func inspectDevice(path string) (disks.Device, error) {
	device, err := disks.InspectDevice(path)
	switch {
	case errors.Is(err, disks.ErrNotDisk):
		return device, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, disks.ErrInUse):
		return device, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return device, err
}

// rawDisk is a disk on a device as it is. A device is read and written past
// the page cache: what is in the guest's own need not be in the host's too.
func rawDisk(d disks.Device, readOnly bool) volumeDisk {
	return volumeDisk{path: d.Path, Disk: qemu.Disk{
		Format: qemu.FormatRaw, HostDevice: d.Block, Direct: d.Block, ReadOnly: readOnly || d.ReadOnly,
	}}
}
