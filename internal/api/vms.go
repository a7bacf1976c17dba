package api

import (
	"context"
	"net/http"
	"time"
)

const (
	// NodePath answers GET with a Node.
	NodePath = "/v1/node"
	// VMsPath answers GET with a JSON array of VM. Below it are the VMs by their
	// pods: VMsPath/NAMESPACE/NAME.
	VMsPath = "/v1/vms"
)

// VMPath is the path of a pod's VM, and with more elements of what is below it.
func VMPath(namespace, name string, more ...string) string {
	path := VMsPath + "/" + namespace + "/" + name
	for _, m := range more {
		path += "/" + m
	}
	return path
}

// Node is the daemon and what it has found on its machine.
type Node struct {
	Version string `json:"version"`
	// Hostname is the machine's, which need not be its name in a cluster.
	Hostname   string      `json:"hostname"`
	Conditions []Condition `json:"conditions"`
}

// Condition is one of CRI's conditions of a runtime.
type Condition struct {
	Type    string `json:"type"`
	Status  bool   `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// State is what a VM does, for people: finer than the states of CRI.
type State string

// The states. A VM whose guest QEMU has stopped for another reason than suspend
// has the name that QEMU gives it, such as io-error.
const (
	StateNone         State = "no VM" // a pod whose container is not there, yet or any more
	StateCreated      State = "created"
	StateStarting     State = "starting"
	StateRunning      State = "running"
	StateSuspended    State = "suspended"
	StateStopping     State = "stopping"
	StateUnresponsive State = "unresponsive" // QEMU runs, and does not answer
	StateExited       State = "exited"
	StateUnknown      State = "unknown" // the process could not be adopted
)

// VM is a pod with its virtual machine, of several attempts the last one.
type VM struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	// SandboxID and ID are CRI's; ID is "" as long as there is no container.
	SandboxID string `json:"sandboxID"`
	ID        string `json:"id,omitempty"`

	State State `json:"state"`
	// Reason, Message and ExitCode say how a VM has exited.
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	ExitCode int32  `json:"exitCode,omitempty"`

	VCPUs       int      `json:"vcpus,omitempty"`
	MemoryBytes int64    `json:"memoryBytes,omitempty"`
	IPs         []string `json:"ips"`
	// Image is what the manifest calls it.
	Image string `json:"image,omitempty"`
	// Attempt counts the pod's containers, from 0.
	Attempt uint32 `json:"attempt"`

	// CreatedAt is when the pod came to the node.
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
}

// Machines are the node's VMs. Errors have the classes of errdefs.
type Machines interface {
	Node(ctx context.Context) Node
	List(ctx context.Context) []VM
}

func (o Options) routeVMs(mux *http.ServeMux) {
	mux.HandleFunc("GET "+NodePath, answer(func(r *http.Request) (any, error) { return o.Machines.Node(r.Context()), nil }))
	mux.HandleFunc("GET "+VMsPath, answer(func(r *http.Request) (any, error) { return o.Machines.List(r.Context()), nil }))
}
