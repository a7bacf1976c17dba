package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
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

// Verb is what can be done with a VM.
type Verb string

// The verbs, in the words of virsh.
const (
	Shutdown Verb = "shutdown" // press the power button, and wait for nothing
	Destroy  Verb = "destroy"  // end it by force, and wait until it has ended
	Reset    Verb = "reset"
	Suspend  Verb = "suspend"
	Resume   Verb = "resume"
)

// Verbs are all verbs.
var Verbs = []Verb{Shutdown, Destroy, Reset, Suspend, Resume}

// Machines are the node's VMs, by the names of their pods. Errors have the classes
// of errdefs.
type Machines interface {
	Node(ctx context.Context) Node
	List(ctx context.Context) []VM
	Get(ctx context.Context, namespace, name string) (VMDetails, error)
	Stats(ctx context.Context, namespace, name string) (VMStats, error)
	// Do does it and returns what the VM is then.
	Do(ctx context.Context, namespace, name string, verb Verb) (VM, error)
	// Console returns what connects in and out to the serial console, until the
	// context, the VM or in ends.
	Console(ctx context.Context, namespace, name string) (func(ctx context.Context, in io.Reader, out io.Writer) error, error)
	// Dial connects to a TCP port of the guest.
	Dial(ctx context.Context, namespace, name string, port uint16) (net.Conn, error)
}

// routeVMs has below VMsPath/NAMESPACE/NAME: GET gives VMDetails, GET stats gives
// VMStats, POST VERB gives VM; console and port/NUMBER are streams.
func (o Options) routeVMs(mux *http.ServeMux) {
	const pod = VMsPath + "/{namespace}/{name}"
	mux.HandleFunc("GET "+NodePath, answer(func(r *http.Request) (any, error) { return o.Machines.Node(r.Context()), nil }))
	mux.HandleFunc("GET "+VMsPath, answer(func(r *http.Request) (any, error) { return o.Machines.List(r.Context()), nil }))
	mux.HandleFunc("GET "+pod, answer(func(r *http.Request) (any, error) {
		return o.Machines.Get(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	}))
	mux.HandleFunc("GET "+pod+"/stats", answer(func(r *http.Request) (any, error) {
		return o.Machines.Stats(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	}))
	for _, verb := range Verbs {
		mux.HandleFunc("POST "+pod+"/"+string(verb), answer(func(r *http.Request) (any, error) {
			return o.Machines.Do(r.Context(), r.PathValue("namespace"), r.PathValue("name"), verb)
		}))
	}
	mux.HandleFunc("GET "+pod+"/console", serveStream(o.console))
	mux.HandleFunc("GET "+pod+"/port/{port}", serveStream(o.port))
}

// console tells a person who is cut off why.
func (o Options) console(r *http.Request) (func(context.Context, *Stream), error) {
	attach, err := o.Machines.Console(r.Context(), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s *Stream) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := attach(ctx, &ending{s, cancel}, s); err != nil && ctx.Err() == nil {
			fmt.Fprintf(s, "\r\n[%v]\r\n", err)
		}
	}, nil
}

func (o Options) port(r *http.Request) (func(context.Context, *Stream), error) {
	text := r.PathValue("port")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, badRequest("port " + text + ": a number from 1 to 65535 is accepted")
	}
	guest, err := o.Machines.Dial(r.Context(), r.PathValue("namespace"), r.PathValue("name"), uint16(port))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, s *Stream) { s.join(ctx, guest) }, nil
}
