package podrun

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// inspected is all that the daemon tells of a part of a pod: its CRI status,
// and what it adds of its own, by name.
type inspected struct {
	Status json.RawMessage            `json:"status"`
	Info   map[string]json.RawMessage `json:"info"`
}

// Inspect prints all that is known of a pod as JSON: its network with
// addresses, links and counters, and its VM with the exact machine.
func (c *Client) Inspect(ctx context.Context, name string, out io.Writer) error {
	p, err := c.Find(ctx, name)
	if err != nil {
		return err
	}
	all := struct {
		Pod inspected  `json:"pod"`
		VM  *inspected `json:"vm,omitempty"`
	}{}
	pod, err := c.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: p.Sandbox.Id, Verbose: true})
	if err != nil {
		return c.RPCError("asking for the pod's status", err)
	}
	if all.Pod, err = inspect(pod.Status, pod.Info); err != nil {
		return err
	}
	if p.Container != nil {
		vm, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: p.Container.Id, Verbose: true})
		if err != nil {
			return c.RPCError("asking for the VM's status", err)
		}
		told, err := inspect(vm.Status, vm.Info)
		if err != nil {
			return err
		}
		all.VM = &told
	}
	raw, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		_, err = fmt.Fprintln(out, string(raw))
	}
	return err
}

func inspect(status proto.Message, info map[string]string) (inspected, error) {
	raw, err := protojson.Marshal(status)
	told := inspected{Status: raw, Info: map[string]json.RawMessage{}}
	for name, value := range info {
		if !json.Valid([]byte(value)) {
			quoted, _ := json.Marshal(value)
			value = string(quoted)
		}
		told.Info[name] = json.RawMessage(value)
	}
	return told, err
}
