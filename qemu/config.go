package qemu

import (
	"fmt"
	"strconv"
)

// Config describes one virtual machine. It is pure data: nothing in it is a
// path, a descriptor or a moment in time, so that the same Config always gives
// the same machine, and it can be recorded as JSON.
type Config struct {
	// Name is what people call the machine; it names it in QEMU's messages
	// and process title. Up to 255 bytes of printable text.
	Name string `json:"name"`
	// UUID becomes the SMBIOS system UUID (/sys/class/dmi/id/product_uuid in
	// the guest) and marks the process: 36 characters, lower case.
	UUID string `json:"uuid"`
	// Machine is a versioned machine type such as "pc-q35-7.2"; empty means
	// the newest one of the binary. What was chosen is in Invocation.Machine
	// and ought to be recorded, for it is part of what a guest has seen.
	Machine string `json:"machine,omitempty"`
	// Accel is the accelerator, already decided: see DecideAccel.
	Accel Accel `json:"accel"`
	// CPU is the processor a guest sees.
	CPU CPU `json:"cpu,omitzero"`
	// VCPUs is the number of virtual processors, 1 to 255.
	VCPUs int `json:"vcpus"`
	// MemoryBytes is the guest's RAM in bytes, a multiple of 1 MiB.
	MemoryBytes int64 `json:"memoryBytes"`
	// HugePageBytes puts the RAM into huge pages of this size, of which it is a
	// multiple (each NUMA node's too); 0 means ordinary memory. QEMU does not
	// start when the host has too few of them free: all are reserved at once.
	HugePageBytes int64 `json:"hugePageBytes,omitempty"`
	// NUMA are the guest's NUMA nodes, numbered by their order; without any,
	// the guest has one with everything.
	NUMA []NUMANode `json:"numa,omitempty"`
	// Disks in the guest's order: their PCI slots and LUNs follow from it.
	Disks []Disk `json:"disks,omitempty"`
	// NICs in the guest's order: their PCI slots follow from it and from
	// nothing else, so that a guest's interface names never change.
	NICs []NIC `json:"nics,omitempty"`
	// Shares in the guest's order.
	Shares []Share `json:"shares,omitempty"`
	// Display gives the guest a VGA card, of which there are screenshots, and
	// whose VNC server takes the connections that it is handed over the monitor.
	Display bool `json:"display,omitempty"`
	// TBSizeMiB bounds TCG's translation buffer, in MiB; 0 means 64. It is
	// memory of the QEMU process on top of the guest's.
	TBSizeMiB int `json:"tbSizeMiB,omitempty"`
}

// Accel is how guest instructions are executed.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm" // by the processor
	TCG Accel = "tcg" // by translation, tens of times slower
)

// CPU is the virtual processor: a model, changes to its features, and how the
// virtual processors are laid out in sockets, cores and threads.
type CPU struct {
	// Model is empty or "host-model" for the best the accelerator has,
	// "host-passthrough" for the host's own under KVM, or a model's name as
	// `qemu-system-x86_64 -cpu help` lists it.
	Model string `json:"model,omitempty"`
	// Check says what becomes of a guest whose processor cannot have all that
	// is asked for.
	Check CPUCheck `json:"check,omitempty"`
	// Vendor that the processor has to be of, as CPUID tells it
	// ("GenuineIntel"): under KVM the host's, under TCG the model's. Empty
	// accepts all.
	Vendor string `json:"vendor,omitempty"`
	// VendorID is the vendor that a guest is told instead, 12 characters.
	VendorID string `json:"vendorID,omitempty"`
	// Features changes single features of the model. They go by QEMU's names
	// and by libvirt's and Linux's, which differ in punctuation.
	Features map[string]FeaturePolicy `json:"features,omitempty"`
	// Cache is what the guest is told of the third-level cache.
	Cache CPUCache `json:"cache,omitempty"`
	// Topology, when nil, is one socket per virtual processor.
	Topology *Topology `json:"topology,omitempty"`
}

// CPUCheck is libvirt's word for how strictly a processor is had.
type CPUCheck string

// The checks. By default, and with CheckPartial, a named model under KVM is had
// in full, and so is every feature that is required; TCG leaves out of a model
// what it cannot emulate.
const (
	CheckNone    CPUCheck = "none"    // what cannot be had is left out
	CheckPartial CPUCheck = "partial" // the default
	CheckFull    CPUCheck = "full"    // what cannot be had keeps the machine from starting
)

// FeaturePolicy is libvirt's word for how a feature is wanted.
type FeaturePolicy string

// The policies.
const (
	FeatureForce    FeaturePolicy = "force"    // required: QEMU cannot claim what is not there
	FeatureRequire  FeaturePolicy = "require"  // the machine does not start without
	FeatureOptional FeaturePolicy = "optional" // if the accelerator has it
	FeatureDisable  FeaturePolicy = "disable"  // kept from the guest
	FeatureForbid   FeaturePolicy = "forbid"   // the machine does not start if the accelerator has it
)

// CPUCache is libvirt's word for what a guest is told of the third-level cache.
type CPUCache string

// The caches; the default is the machine type's.
const (
	CacheEmulate     CPUCache = "emulate"     // one of QEMU's making
	CachePassthrough CPUCache = "passthrough" // the host's, with host-passthrough only
	CacheDisable     CPUCache = "disable"     // none
)

// Topology lays virtual processors out; the product must equal Config.VCPUs.
type Topology struct {
	Sockets int `json:"sockets"`
	Cores   int `json:"cores"`
	Threads int `json:"threads"`
}

// NUMANode is a part of the guest's processors and memory.
type NUMANode struct {
	// CPUs are indices of virtual processors; each is in exactly one node.
	CPUs []int `json:"cpus,omitempty"`
	// MemoryBytes is a multiple of 1 MiB; the nodes have all of
	// Config.MemoryBytes together.
	MemoryBytes int64 `json:"memoryBytes"`
	// Shared maps the memory so that another process could share it.
	Shared bool `json:"shared,omitempty"`
	// Distances to all nodes in their order: 10 to itself, 11 to 254 to
	// others. All nodes have them, or none.
	Distances []int `json:"distances,omitempty"`
}

// Disk is a block device of the guest.
type Disk struct {
	// ID is unique in the machine: a letter, then up to 19 letters, digits
	// and dashes, lower case. It names the device, the block node and the
	// descriptors ("disk:<id>").
	ID string `json:"id"`
	// Bus the disk is attached to.
	Bus DiskBus `json:"bus"`
	// Media is a disk (also when empty) or a CD-ROM. A CD-ROM is always
	// read-only; on the virtio bus, which has none, it is a read-only disk.
	Media Media `json:"media,omitempty"`
	// Format of the disk's own file. Never guessed from its content.
	Format Format `json:"format"`
	// ReadOnly refuses the guest's writes.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Serial is shown to the guest: up to 20 bytes on virtio, 36 on scsi.
	Serial string `json:"serial,omitempty"`
	// BootIndex orders the disks a firmware may boot from, lowest first,
	// counted from 1; 0 means never.
	BootIndex int `json:"bootIndex,omitempty"`
	// HostDevice tells that the disk's own file is a block device of the host.
	HostDevice bool `json:"hostDevice,omitempty"`
	// Direct goes past the host's page cache (O_DIRECT), which the file must
	// support. On a raw disk that begins at an odd sector it also saves the
	// host from reading the pages that the guest's writes cover by half.
	Direct bool `json:"direct,omitempty"`
	// Offset and Size are the part of a raw file that is the disk, in bytes,
	// both multiples of 512. A Size of 0 is all that follows Offset.
	Offset int64 `json:"offset,omitempty"`
	Size   int64 `json:"size,omitempty"`
	// RBD, when not nil, is in the place of the disk's own file.
	RBD *RBD `json:"rbd,omitempty"`
	// Backing is the chain of read-only files under the disk's own, the next
	// one first and the innermost last. What the files' headers say about
	// their backing is not followed.
	Backing []Backing `json:"backing,omitempty"`
}

// DiskBus is how a disk is attached.
type DiskBus string

// The disk buses.
const (
	BusVirtio DiskBus = "virtio" // virtio-blk: /dev/vda, vdb...
	BusSCSI   DiskBus = "scsi"   // LUNs of one virtio-scsi controller: /dev/sda, sdb... or sr0
)

// Media is the kind of a block device.
type Media string

// The media.
const (
	MediaDisk  Media = "disk"
	MediaCDROM Media = "cdrom"
)

// Format is the format of an image file.
type Format string

// The image formats.
const (
	FormatQCow2 Format = "qcow2"
	FormatRaw   Format = "raw"
)

// Backing is one file of a backing chain.
type Backing struct {
	Format Format `json:"format"`
}

// NIC is a network interface of the guest: on an open tap device, or a network card of the host's.
type NIC struct {
	// ID is unique in the machine, of the same form as Disk.ID.
	ID string `json:"id"`
	// MAC is the guest's address, six colon-separated octets in lower case.
	MAC string `json:"mac"`
	// MTU that the guest is told, 68 to 65535; 0 tells nothing.
	MTU int `json:"mtu,omitempty"`
	// Queues is the number of queue pairs, and of the tap's descriptors;
	// 0 means 1.
	Queues int `json:"queues,omitempty"`
	// VhostNet moves packets in the kernel; it needs one /dev/vhost-net
	// descriptor per queue.
	VhostNet bool `json:"vhostNet,omitempty"`
	// Host, when not empty, is the address of a PCI device of the host's, such
	// as "0000:3b:02.1", that is bound to vfio-pci and is the NIC in the place
	// of a tap. It has MAC already, and MTU, Queues and VhostNet do not apply.
	// QEMU's user has to be allowed to open /dev/vfio/<its IOMMU group>, and all
	// of the guest's memory is locked: QEMU inherits RLIMIT_MEMLOCK.
	Host string `json:"host,omitempty"`
}

// ConfigError says which field of a Config cannot be, and what could.
type ConfigError struct {
	Field    string // path in the JSON form, such as "disks[2].serial"
	Value    any    // what it was
	Accepted string // what would be accepted
}

// Error names the field, its value and what is accepted.
func (e *ConfigError) Error() string {
	got := fmt.Sprint(e.Value)
	if s, ok := e.Value.(string); ok {
		got = strconv.Quote(s)
	}
	return fmt.Sprintf("qemu: machine config: %s: got %s, want %s", e.Field, got, e.Accepted)
}

// bad is the one way in which the builder refuses a field.
func bad(field string, value any, accepted string, args ...any) error {
	return &ConfigError{Field: field, Value: value, Accepted: fmt.Sprintf(accepted, args...)}
}
