package criproxy

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What the VM runtime has just done is known before it is asked for a list:
// it may die in between, and kubelet would take what is not in the list for
// gone.

// remember takes what a call that succeeded at the VM runtime has changed.
func (k *known) remember(method string, in, out []byte) {
	id := string(field(in, 1))
	switch method {
	case "CreateContainer":
		k.madeContainer(in, string(field(out, 1)))
	case "StartContainer":
		k.containerIs(id, runtimeapi.ContainerState_CONTAINER_RUNNING)
	case "StopContainer":
		k.containerIs(id, runtimeapi.ContainerState_CONTAINER_EXITED)
	case "RemoveContainer":
		k.forget(containers, id)
	case "StopPodSandbox":
		k.stoppedSandbox(id)
	case "RemovePodSandbox":
		k.removedSandbox(id)
	}
}

func (k *known) madeSandbox(req *runtimeapi.RunPodSandboxRequest, id string) {
	cfg := req.GetConfig()
	k.add(sandboxes, &runtimeapi.PodSandbox{
		Id: id, Metadata: cfg.GetMetadata(), State: runtimeapi.PodSandboxState_SANDBOX_READY, CreatedAt: time.Now().UnixNano(),
		Labels: cfg.GetLabels(), Annotations: cfg.GetAnnotations(), RuntimeHandler: req.GetRuntimeHandler(),
	})
}

func (k *known) madeContainer(in []byte, id string) {
	var req runtimeapi.CreateContainerRequest
	if proto.Unmarshal(in, &req) != nil {
		return // the runtime has read it
	}
	cfg := req.GetConfig()
	k.add(containers, &runtimeapi.Container{
		Id: id, PodSandboxId: req.GetPodSandboxId(), Metadata: cfg.GetMetadata(), Image: cfg.GetImage(), ImageRef: cfg.GetImage().GetImage(),
		State: runtimeapi.ContainerState_CONTAINER_CREATED, CreatedAt: time.Now().UnixNano(),
		Labels: cfg.GetLabels(), Annotations: cfg.GetAnnotations(), ImageId: cfg.GetImage().GetImage(),
	})
}

func (k *known) containerIs(id string, state runtimeapi.ContainerState) {
	k.change(containers, func(item []byte) []byte {
		var c runtimeapi.Container
		if !match(item, id) || proto.Unmarshal(item, &c) != nil {
			return item
		}
		c.State = state
		return encoded(&c, item)
	})
}

func (k *known) stoppedSandbox(id string) {
	k.change(sandboxes, func(item []byte) []byte {
		var s runtimeapi.PodSandbox
		if !match(item, id) || proto.Unmarshal(item, &s) != nil {
			return item
		}
		s.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
		return encoded(&s, item)
	})
}

func (k *known) removedSandbox(id string) {
	k.change(sandboxes, func(item []byte) []byte {
		if match(item, id) {
			return nil
		}
		return item
	})
	k.change(containers, func(item []byte) []byte {
		var c runtimeapi.Container
		if proto.Unmarshal(item, &c) == nil && id != "" && strings.HasPrefix(c.GetPodSandboxId(), id) {
			return nil
		}
		return item
	})
}

// match tells whether an item is the one of that id, which people abbreviate.
func match(item []byte, id string) bool { return id != "" && strings.HasPrefix(itemID(item), id) }

func encoded(m proto.Message, otherwise []byte) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		return otherwise
	}
	return raw
}

// filtered is what a list would have answered from what is known. The request
// is the list's, encoded.
func (k *known) filtered(of kind, request []byte) []byte {
	list, filter := k.list(of), field(request, 1)
	if len(filter) == 0 {
		return list
	}
	keep := filterOf(of, filter)
	var out []byte
	for _, item := range items(list) {
		if keep(item) {
			out = appendItem(out, item)
		}
	}
	return out
}

// filterOf reads a filter; what it cannot read keeps everything.
func filterOf(of kind, filter []byte) func(item []byte) bool {
	switch of {
	case sandboxes:
		return typed(filter, keepSandbox)
	case containers:
		return typed(filter, keepContainer)
	case containerStats:
		return typed(filter, keepContainerStats)
	case sandboxStats:
		return typed(filter, keepSandboxStats)
	case images:
		return typed(filter, keepImage)
	}
	return func([]byte) bool { return true }
}

// message is a pointer to a T that is a protobuf message.
type message[T any] interface {
	*T
	proto.Message
}

func typed[F, I any, PF message[F], PI message[I]](filter []byte, keep func(PF, PI) bool) func([]byte) bool {
	f := PF(new(F))
	if proto.Unmarshal(filter, f) != nil {
		return func([]byte) bool { return true }
	}
	return func(raw []byte) bool {
		item := PI(new(I))
		return proto.Unmarshal(raw, item) != nil || keep(f, item)
	}
}

func keepSandbox(f *runtimeapi.PodSandboxFilter, s *runtimeapi.PodSandbox) bool {
	return strings.HasPrefix(s.GetId(), f.GetId()) && (f.GetState() == nil || f.GetState().GetState() == s.GetState()) &&
		selects(f.GetLabelSelector(), s.GetLabels())
}

func keepContainer(f *runtimeapi.ContainerFilter, c *runtimeapi.Container) bool {
	return strings.HasPrefix(c.GetId(), f.GetId()) && strings.HasPrefix(c.GetPodSandboxId(), f.GetPodSandboxId()) &&
		(f.GetState() == nil || f.GetState().GetState() == c.GetState()) && selects(f.GetLabelSelector(), c.GetLabels())
}

// keepContainerStats does not know the sandbox: stats do not tell.
func keepContainerStats(f *runtimeapi.ContainerStatsFilter, s *runtimeapi.ContainerStats) bool {
	return f.GetPodSandboxId() == "" && strings.HasPrefix(s.GetAttributes().GetId(), f.GetId()) &&
		selects(f.GetLabelSelector(), s.GetAttributes().GetLabels())
}

func keepSandboxStats(f *runtimeapi.PodSandboxStatsFilter, s *runtimeapi.PodSandboxStats) bool {
	return strings.HasPrefix(s.GetAttributes().GetId(), f.GetId()) && selects(f.GetLabelSelector(), s.GetAttributes().GetLabels())
}

func keepImage(f *runtimeapi.ImageFilter, i *runtimeapi.Image) bool {
	want := f.GetImage().GetImage()
	if want == "" || i.GetId() == want {
		return true
	}
	for _, name := range append(i.GetRepoTags(), i.GetRepoDigests()...) {
		if name == want || name == want+":latest" {
			return true
		}
	}
	return false
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}
