package flexvolume

import (
	"encoding/json"
	"fmt"
)

// Driver answers kubelet's calls (Kubernetes' page "FlexVolume", "Driver
// operations"). Its calls may be repeated, and may meet what an interrupted one
// has left.
type Driver struct {
	// NewUUID makes the identity of a volume.
	NewUUID func() string
}

// Reply is the answer to a call, the line that kubelet reads.
type Reply struct {
	Status       string        `json:"status"`
	Message      string        `json:"message,omitempty"`
	Device       *string       `json:"device,omitempty"`
	Attached     *bool         `json:"attached,omitempty"`
	Capabilities *Capabilities `json:"capabilities,omitempty"`
}

// The values of Reply.Status.
const (
	StatusSuccess      = "Success"
	StatusFailure      = "Failure"
	StatusNotSupported = "Not supported"
)

// Capabilities tell kubelet what to leave alone: volumes are not attached to
// nodes, and the directory, which may hold the key of a storage cluster, is
// neither given to the pod's group nor relabelled.
type Capabilities struct {
	Attach         bool `json:"attach"`
	SELinuxRelabel bool `json:"selinuxRelabel"`
	FSGroup        bool `json:"fsGroup"`
}

// operation is a call with a fixed number of arguments.
type operation struct {
	args int
	run  func(d Driver, args []string) (Reply, error)
}

func operations() map[string]operation {
	return map[string]operation{
		"init":          {0, func(Driver, []string) (Reply, error) { return Reply{Capabilities: &Capabilities{}}, nil }},
		"attach":        {2, nothing}, // options, node
		"detach":        {2, nothing}, // device, node
		"waitforattach": {2, func(_ Driver, args []string) (Reply, error) { return Reply{Device: &args[0]}, nil }},
		"isattached":    {2, attached},
		"mount":         {2, func(d Driver, args []string) (Reply, error) { return Reply{}, d.mount(args[0], args[1]) }},
		"unmount":       {1, func(_ Driver, args []string) (Reply, error) { return Reply{}, unmount(args[0]) }},
	}
}

func nothing(Driver, []string) (Reply, error) { return Reply{}, nil }

// attached is always so: there is nothing to attach.
func attached(Driver, []string) (Reply, error) {
	yes := true
	return Reply{Attached: &yes}, nil
}

// Call runs an operation, args[0], with its arguments. What goes wrong is in the
// Reply.
func (d Driver) Call(args []string) Reply {
	reply, err := d.call(args)
	switch {
	case err != nil:
		return Reply{Status: StatusFailure, Message: err.Error()}
	case reply.Status == "":
		reply.Status = StatusSuccess
	}
	return reply
}

func (d Driver) call(args []string) (Reply, error) {
	if len(args) == 0 {
		return Reply{}, fmt.Errorf("flexvolume driver: no operation given")
	}
	op, known := operations()[args[0]]
	if !known {
		return Reply{Status: StatusNotSupported}, nil
	}
	if n := len(args) - 1; n != op.args {
		return Reply{}, fmt.Errorf("flexvolume driver: %s: %d arguments given, accepted are %d", args[0], n, op.args)
	}
	reply, err := op.run(d, args[1:])
	if err != nil {
		err = fmt.Errorf("flexvolume driver: %s: %w", args[0], err)
	}
	return reply, err
}

// Line is the reply as kubelet reads it.
func (r Reply) Line() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and booleans, and nothing else
	}
	return append(b, '\n')
}
