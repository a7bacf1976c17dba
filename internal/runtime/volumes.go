package runtime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// volumes are what a VM gets from its pod beside its own disks. They are
// worked out when the container is created, for what has to be made and for
// what the guest is told, and once more when it is started, for the machine.
type volumes struct {
	bus qemu.DiskBus
	// disks in the guest's order, between the root and the cloud-init disk.
	disks []volumeDisk
	// shares in the guest's order.
	shares []share
	// chownShares gives the shares to QEMU's user.
	chownShares bool
	// copies are written into the guest by cloud-init.
	copies []copied
	// seed is what cloud-init is told of the disks and shares.
	seed cloudinit.Volumes
	// notes belong into the pod's log.
	notes []string
}

// volumeDisk is a disk of a guest with what is behind it on the host.
type volumeDisk struct {
	qemu.Disk
	// path is the file or device.
	path string
	// guest is the path in the guest that the manifest gives it, "" if none.
	guest string
}

// volumesOf works out a VM's volumes. It looks at the host and changes nothing.
func (r *Runtime) volumesOf(v *vm, spec *vmpod.VM) (*volumes, error) {
	vols := &volumes{bus: qemu.DiskBus(spec.DiskDriver), chownShares: spec.ChownShares}
	if err := vols.addDevices(spec.Devices); err != nil {
		return nil, err
	}
	if err := vols.addMounts(v.pod.uid(), spec.Mounts); err != nil {
		return nil, err
	}
	vols.noteScript(spec)
	return vols, vols.checkLimit()
}

// checkLimit refuses more disks than the bus has places for.
func (v *volumes) checkLimit() error {
	const own = 2 // root and cloud-init
	if n, limit := len(v.disks)+own, qemu.MaxDisks(v.bus); n > limit {
		return fmt.Errorf("too many %s block devices: the pod has %d with its root and cloud-init disks, the limit is %d: %w",
			v.bus, n, limit, errdefs.ErrInvalidArgument)
	}
	return nil
}

// add adds a disk, and tells how the guest finds it. It is known by the first
// of the names that is still free; the last one must be.
func (v *volumes) add(d volumeDisk, names ...string) cloudinit.Disk {
	d.ID, d.Bus, d.Serial = fmt.Sprintf("vol%d", len(v.disks)), v.bus, v.serial(names)
	v.disks = append(v.disks, d)
	return v.find(len(v.disks)-1, d.Serial)
}

// find tells where the guest finds the i-th of the disks: the root disk comes first.
func (v *volumes) find(i int, serial string) cloudinit.Disk {
	pci, lun := qemu.DiskAddress(v.bus, 1+i)
	return cloudinit.Disk{Serial: serial, PCI: pci, SCSI: v.bus == qemu.BusSCSI, LUN: lun}
}

func (v *volumes) serial(names []string) string {
	taken := []string{rootDisk, seedDisk}
	for _, d := range v.disks {
		taken = append(taken, d.Serial)
	}
	for _, name := range names {
		if s := cloudinit.Serial(name); !slices.Contains(taken, s) {
			return s
		}
	}
	return cloudinit.Serial(strings.Join(names, " "))
}

// machineDisks are the disks as QEMU is told of them.
func (v *volumes) machineDisks() []qemu.Disk {
	var all []qemu.Disk
	for _, d := range v.disks {
		all = append(all, d.Disk)
	}
	return all
}

// pathOf is the file behind a disk of that id.
func (v *volumes) pathOf(id string) (string, bool) {
	for _, d := range v.disks {
		if d.ID == id {
			return d.path, true
		}
	}
	return "", false
}

func (v *volumes) note(format string, args ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}
