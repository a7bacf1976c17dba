package store

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SandboxPhase is where a sandbox is in its life.
type SandboxPhase string

// A sandbox goes through these phases in this order; each may be skipped by a stop.
const (
	SandboxCreating SandboxPhase = "creating" // intent: a namespace and network may exist
	SandboxReady    SandboxPhase = "ready"
	SandboxStopping SandboxPhase = "stopping" // intent: its VM and network are being undone
	SandboxStopped  SandboxPhase = "stopped"
	SandboxRemoving SandboxPhase = "removing" // intent: its files are being deleted
)

// Sandbox is the record of a pod sandbox.
type Sandbox struct {
	ID      string
	Phase   SandboxPhase
	Config  Message[*runtimeapi.PodSandboxConfig]
	Handler string
	Created time.Time
	// NetnsName is the name under the namespaces' directory, chosen before the namespace exists.
	NetnsName string
	// Network is what package netns needs to open the network again; nil before CNI's ADD and after its DEL.
	Network json.RawMessage `json:",omitempty"`
	// IPs stay known when the network is gone.
	IPs []netip.Addr `json:",omitempty"`
	// MACs are the guest's addresses by the names of the pod's links; later sandboxes of the pod keep them.
	MACs map[string]string `json:",omitempty"`
	// Base is the digest of the image below the pod's root disk, "" while there is no disk.
	Base string `json:",omitempty"`
}

// ContainerPhase is where a VM is in its life.
type ContainerPhase string

// The phases of a container; runtime/phase.go has the transitions.
const (
	ContainerCreating ContainerPhase = "creating" // intent: disks are being made
	ContainerCreated  ContainerPhase = "created"
	ContainerStarting ContainerPhase = "starting" // intent: a process may exist in the container's cgroup
	ContainerRunning  ContainerPhase = "running"
	ContainerStopping ContainerPhase = "stopping" // intent: the power button was pressed
	ContainerExited   ContainerPhase = "exited"
	ContainerRemoving ContainerPhase = "removing" // intent: its files are being deleted
)

// Container is the record of a VM.
type Container struct {
	ID        string
	SandboxID string
	Phase     ContainerPhase
	Config    Message[*runtimeapi.ContainerConfig]

	ImageID     string
	ImageDigest string
	// RootDevice is the device of a persistent root disk, by its path without
	// symbolic links, as soon as it is this VM's; "" for a VM with a disk of
	// its pod's own.
	RootDevice string `json:",omitempty"`

	Created, Started, Finished time.Time
	ExitCode                   int32
	Reason, Message            string

	// Notes are for the VM's log: what of the objects that annotations name had
	// no effect, and what became of a persistent root disk.
	Notes []string `json:",omitempty"`
	// CgroupPath is known before the process, which is born in it.
	CgroupPath string `json:",omitempty"`
	// Process identifies QEMU (package qemu's Identity); nil while there is none.
	Process json.RawMessage `json:",omitempty"`
	// Machine is the versioned machine type that the guest was started with.
	Machine string `json:",omitempty"`
	// StopBy is when a stop that was asked for becomes a kill.
	StopBy time.Time `json:",omitzero"`
	// Resources are the limits in force where they differ from Config's.
	Resources *Message[*runtimeapi.LinuxContainerResources] `json:",omitempty"`
}

// Message holds a protobuf message in a JSON record, in its binary form: so
// fields that this version does not know survive.
type Message[M proto.Message] struct{ M M }

// MarshalJSON implements json.Marshaler.
func (m Message[M]) MarshalJSON() ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.M)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.M.ProtoReflect().Descriptor().FullName(), err)
	}
	return json.Marshal(raw)
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *Message[M]) UnmarshalJSON(data []byte) error {
	var raw []byte
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	var zero M
	fresh := zero.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(raw, fresh); err != nil {
		return fmt.Errorf("decode %s: %w", fresh.ProtoReflect().Descriptor().FullName(), err)
	}
	m.M = fresh
	return nil
}
