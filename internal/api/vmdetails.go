package api

import (
	"encoding/json"
	"time"
)

// VMDetails is all that is known of a VM.
type VMDetails struct {
	VM
	Container string `json:"container,omitempty"`
	Hostname  string `json:"hostname,omitempty"`
	UUID      string `json:"uuid,omitempty"`
	// Machine is the versioned machine type, "" before the first start.
	Machine string `json:"machine,omitempty"`
	// PID is QEMU's on the node, 0 when it does not run.
	PID int `json:"pid,omitempty"`
	// Where its parts are on the node.
	CgroupPath  string `json:"cgroupPath,omitempty"`
	NetnsPath   string `json:"netnsPath,omitempty"`
	DebugSocket string `json:"debugSocket,omitempty"`
	LogPath     string `json:"logPath,omitempty"`
	// Notes say what of the manifest had no effect.
	Notes []string `json:"notes"`

	Interfaces []Interface `json:"interfaces"`
	// Disks are those of a VM that runs and answers, as QEMU tells them.
	Disks []Disk `json:"disks"`
	// Config is the OCI runtime-spec document of the exact machine, in whose vm
	// section is QEMU's whole command line; null before the first start.
	Config json.RawMessage `json:"config"`
}

// Interface is a NIC of the guest.
type Interface struct {
	// Name is that of the link in the pod's network namespace.
	Name      string   `json:"name"`
	MAC       string   `json:"mac"`
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses"`
	Gateways  []string `json:"gateways"`
	// Plumbing says how frames pass between link and guest, Tap by which tap.
	Plumbing string `json:"plumbing"`
	Tap      string `json:"tap,omitempty"`
	// Counters are as the guest would count.
	Counters NICStats `json:"counters"`
}

// Disk is a drive of the guest.
type Disk struct {
	// ID is that of the guest's device in QEMU.
	ID       string `json:"id"`
	File     string `json:"file"`
	Format   string `json:"format"`
	ReadOnly bool   `json:"readOnly"`
	// VirtualSize is what the guest sees, ActualSize what is occupied, in bytes.
	VirtualSize int64 `json:"virtualSize"`
	ActualSize  int64 `json:"actualSize,omitempty"`
	// Backing is the file below an overlay.
	Backing string `json:"backing,omitempty"`
	// IOStatus is ok, failed or nospace.
	IOStatus string `json:"ioStatus,omitempty"`
}

// NICStats are the counters of a NIC, as the guest would count them.
type NICStats struct {
	Name      string `json:"name"`
	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	RxErrors  uint64 `json:"rxErrors"`
	RxDropped uint64 `json:"rxDropped"`
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
	TxErrors  uint64 `json:"txErrors"`
	TxDropped uint64 `json:"txDropped"`
}

// VMStats is what a VM has used since its start.
type VMStats struct {
	VM
	Time time.Time `json:"time"`
	// CPUNanoseconds is the time of all of QEMU, Memory and RSS what it is charged
	// and what it keeps in RAM, in bytes.
	CPUNanoseconds uint64 `json:"cpuNanoseconds"`
	Memory         int64  `json:"memory"`
	WorkingSet     int64  `json:"workingSet"`
	RSS            int64  `json:"rss"`
	// DiskBytes is what its own files occupy on the node.
	DiskBytes uint64 `json:"diskBytes"`
	// BalloonBytes is the memory that the guest has now, 0 without a balloon.
	BalloonBytes int64       `json:"balloonBytes,omitempty"`
	VCPUs        []VCPUStats `json:"vcpuStats"`
	Disks        []DiskStats `json:"disks"`
	NICs         []NICStats  `json:"nics"`
}

// VCPUStats is what a virtual processor has used; under emulation one thread may
// stand for all.
type VCPUStats struct {
	Index       int    `json:"index"`
	ThreadID    int    `json:"threadID"`
	Nanoseconds uint64 `json:"nanoseconds"`
}

// DiskStats are the counters of a drive.
type DiskStats struct {
	ID               string `json:"id"`
	ReadRequests     uint64 `json:"readRequests"`
	ReadBytes        uint64 `json:"readBytes"`
	ReadNanoseconds  uint64 `json:"readNanoseconds"`
	WriteRequests    uint64 `json:"writeRequests"`
	WriteBytes       uint64 `json:"writeBytes"`
	WriteNanoseconds uint64 `json:"writeNanoseconds"`
	FlushRequests    uint64 `json:"flushRequests"`
	FlushNanoseconds uint64 `json:"flushNanoseconds"`
}
