package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/flexvolume"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// volumes are what a VM's disks, shares and injected files are made of. They
// are worked out when the container is created, for what has to be made and
// for what the guest is told, and once more when it is started, for the machine.
type volumes struct {
	bus qemu.DiskBus
	// root is the first disk: an overlay that belongs to the pod or, if
	// persistent, a device.
	root       volumeDisk
	persistent bool
	// disks in the guest's order, between the root and the cloud-init disk.
	disks []volumeDisk
	// flex are the FlexVolumes, by the directory of the host that mounts name.
	flex map[string]flexMount
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
	// path is the file or device; "" of what is not on this host.
	path string
	// capacity is that of a volume that is made for the pod, in bytes; 0 of
	// what is there without us.
	capacity int64
	// image is the digest of the image that a persistent root disk holds.
	image string
	// key opens what is not on this host.
	key flexvolume.Secret
	// guest is the path in the guest that the manifest gives it, "" if none.
	guest string
}

// volumesOf works out a VM's volumes. It looks at the host and changes nothing.
func (r *Runtime) volumesOf(v *vm, spec *vmpod.VM) (*volumes, error) {
	vols := &volumes{bus: qemu.DiskBus(spec.DiskDriver), chownShares: spec.ChownShares}
	vols.root = r.overlayRoot(v, vols.bus)
	for _, d := range spec.Devices {
		if err := vols.addDevice(v, d); err != nil {
			return nil, fmt.Errorf("volume device %s: %w", d.ContainerPath, err)
		}
	}
	if err := r.addFlexVolumes(v, vols); err != nil {
		return nil, err
	}
	if err := vols.addMounts(v.pod.uid(), spec.Mounts); err != nil {
		return nil, err
	}
	if vols.persistent && spec.RootVolumeSize > 0 {
		vols.note("VirtletRootVolumeSize has no effect: the root disk is all of a device")
	}
	vols.noteScript(spec)
	return vols, vols.check()
}

// overlayRoot is a disk over the pod's image. What format that has, the overlay
// tells when it is there: see readBacking.
func (r *Runtime) overlayRoot(v *vm, bus qemu.DiskBus) volumeDisk {
	return volumeDisk{path: r.rootPath(v.pod.uid()), Disk: qemu.Disk{
		ID: rootDisk, Bus: bus, Format: qemu.FormatQCow2, BootIndex: 1, Serial: rootDisk,
		Backing: []qemu.Backing{{Format: qemu.FormatQCow2}},
	}}
}

// check refuses more disks than the bus has places for, and one thing as two disks.
func (v *volumes) check() error {
	const own = 2 // root and cloud-init
	if n, limit := len(v.disks)+own, qemu.MaxDisks(v.bus); n > limit {
		return fmt.Errorf("too many %s block devices: the pod has %d with its root and cloud-init disks, the limit is %d: %w",
			v.bus, n, limit, errdefs.ErrInvalidArgument)
	}
	guest := map[string]string{v.root.path: vmpod.RootDevice}
	for _, d := range v.disks {
		if other, twice := guest[d.path]; twice && d.path != "" {
			return fmt.Errorf("%s is two disks of the pod, %s and %s: accepted is one: %w", d.path, other, d.guest, errdefs.ErrInvalidArgument)
		}
		guest[d.path] = d.guest
	}
	return nil
}

// add adds a disk, and tells how the guest finds it. Its serial number is made
// of the first of the names that nothing else has.
func (v *volumes) add(d volumeDisk, names ...string) cloudinit.Disk {
	d.ID, d.Bus, d.Serial = fmt.Sprintf("vol%d", len(v.disks)), v.bus, v.serial(names)
	v.disks = append(v.disks, d)
	pci, lun := qemu.DiskAddress(v.bus, len(v.disks)) // behind the root disk
	return cloudinit.Disk{Serial: d.Serial, PCI: pci, SCSI: v.bus == qemu.BusSCSI, LUN: lun}
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

// machineDisks are all disks as QEMU is told of them.
func (v *volumes) machineDisks() []qemu.Disk {
	all := []qemu.Disk{v.root.Disk}
	for _, d := range v.disks {
		all = append(all, d.Disk)
	}
	return append(all, qemu.Disk{
		ID: seedDisk, Bus: v.bus, Media: qemu.MediaCDROM, Format: qemu.FormatRaw, ReadOnly: true, Serial: seedDisk,
	})
}

// byID is the disk of that id, nil if it is none of the volumes.
func (v *volumes) byID(id string) *volumeDisk {
	if id == rootDisk {
		return &v.root
	}
	for i := range v.disks {
		if v.disks[i].ID == id {
			return &v.disks[i]
		}
	}
	return nil
}

// open opens the disk for QEMU. A device that is written to is opened for
// nobody else: of mounts and mappings nothing else would warn.
func (d *volumeDisk) open(need qemu.FileNeed) (*os.File, error) {
	flags := need.OpenFlags()
	if d.HostDevice && need.Writable {
		flags |= unix.O_EXCL
	}
	f, err := os.OpenFile(d.path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w: it is mounted or mapped, or another machine's disk: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, err
	}
	if d.image != "" {
		err = checkRootDevice(f, d.image)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (v *volumes) note(format string, args ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}

// inspectDevice looks at a device that a manifest names.
func inspectDevice(path string) (disks.Device, error) {
	device, err := disks.InspectDevice(path)
	if errors.Is(err, disks.ErrNotDisk) {
		return device, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return device, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return device, nil
}

// rawDisk is a disk on a device as it is. A device is read and written past
// the page cache: what is in the guest's own need not be in the host's too.
func rawDisk(d disks.Device, readOnly bool) volumeDisk {
	return volumeDisk{path: d.Path, Disk: qemu.Disk{
		Format: qemu.FormatRaw, HostDevice: d.Block, Direct: d.Block, ReadOnly: readOnly || d.ReadOnly,
	}}
}
