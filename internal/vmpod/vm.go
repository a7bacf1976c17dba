package vmpod

import (
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Pod is what a PodSandboxConfig alone says about a VM pod.
type Pod struct {
	// Name, Namespace and UID are those of the pod's metadata.
	Name, Namespace, UID string
	// Attempt counts the sandboxes of the pod, from 0.
	Attempt uint32
	// Hostname is the guest's: see the function of this name.
	Hostname string
	// CgroupParent is linux.cgroup_parent as sent: a path, or with systemd
	// the name of a slice.
	CgroupParent string
	// Settings are the pod's annotations.
	Settings
	// Notes say what is accepted and has no effect, a sentence each, for the
	// pod's log.
	Notes []string
}

// Settings are what annotations of a pod ask for, with defaults filled in.
type Settings struct {
	// VCPUs is the number of virtual processors, 1 to 255.
	VCPUs int
	// CPUModel is empty for the node's default, or CPUHostModel. It counts
	// when CPU is nil.
	CPUModel string
	// CPU is the processor in detail, nil when no annotation speaks of it.
	CPU *CPUSetting
	// DiskDriver is the bus of all disks.
	DiskDriver DiskDriver
	// RootVolumeSize is the least virtual size of the root disk in bytes;
	// 0 means that of the image. The image's size counts when it is larger.
	RootVolumeSize int64
	// Display gives the guest a VGA card.
	Display bool
	// ChownShares gives shared directories, with all in them, to QEMU's user.
	ChownShares bool
	// SystemUUID is what VirtletSystemUUID says, lower case, or empty.
	SystemUUID string
	// Network is what is asked of the pod's CNI plugins.
	Network Network
	// CloudInit is what the guest is told at its first boot.
	CloudInit CloudInit
	// Sources are the objects that more of it comes from.
	Sources Sources
	// Files are to be written into the root disk before its first boot: once
	// per disk, in this order. They are there after WithData.
	Files []File
}

// DiskDriver is the bus that disks are attached to.
type DiskDriver string

// The disk drivers.
const (
	DiskSCSI   DiskDriver = "scsi"
	DiskVirtio DiskDriver = "virtio"
)

// CloudInit is the part of cloud-init's seed that a manifest decides.
type CloudInit struct {
	// ImageType is the layout of the seed.
	ImageType CloudInitImageType
	// MetaData replaces generated keys of the same name; nil means none.
	// Numbers are json.Number.
	MetaData map[string]any
	// UserData is the map under `#cloud-config`; nil means that no annotation
	// has it. Numbers are json.Number.
	UserData map[string]any
	// SourceUserData is the map of the object that an annotation names, for
	// UserData to be merged over; nil means none. Numbers are json.Number.
	SourceUserData map[string]any
	// UserDataScript, when not empty, is the whole of user-data.
	UserDataScript string
	// SSHKeys are lines for authorized_keys; nil means that no annotation has any.
	SSHKeys []string
	// ForceDHCP leaves the network configuration out of the seed.
	ForceDHCP bool
}

// CloudInitImageType is a layout of cloud-init's seed.
type CloudInitImageType string

// The seeds' layouts.
const (
	NoCloud     CloudInitImageType = "nocloud"
	ConfigDrive CloudInitImageType = "configdrive"
)

// EnvVar is an environment variable.
type EnvVar struct{ Name, Value string }

// VM is a pod with its one container, read as a virtual machine.
type VM struct {
	Pod
	// ContainerName and ContainerAttempt are those of the container's metadata.
	ContainerName    string
	ContainerAttempt uint32
	// UUID is the SMBIOS system UUID, lower case: Settings.SystemUUID, else
	// derived from the pod's UID just as Virtlet did.
	UUID string
	// Image is what the VM boots, as CRI names it (a name, digest or image
	// id); UserImage is how the manifest wrote it, if CRI says so.
	Image, UserImage string
	// MemoryBytes is the guest's RAM, a multiple of MemoryStep.
	MemoryBytes int64
	// HugePageBytes is the size of the host's huge pages that the RAM is made
	// of, 0 for ordinary memory.
	HugePageBytes int64
	// Env are the container's variables in their order.
	Env []EnvVar
	// Mounts are the container's, in their order.
	Mounts []Mount
	// Devices are the container's, in their order.
	Devices []Device
	// TTY, Stdin and StdinOnce are the container's fields of these names.
	TTY, Stdin, StdinOnce bool
	// GracePeriod is the pod's termination grace period, 0 when CRI does not tell.
	GracePeriod time.Duration
	// OOMScoreAdj is for the QEMU process.
	OOMScoreAdj int64
	// limits are as CRI sent them; nil when it sent none. See Resources.
	limits *runtimeapi.LinuxContainerResources
}
