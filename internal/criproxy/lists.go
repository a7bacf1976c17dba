package criproxy

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// listing is a list that CRI has twice: in one answer and as a stream. Both
// have their items in field 1.
type listing struct {
	unary, stream string
	service       string
	of            kind
	// side tells from the filter whom to ask.
	side func(r *routes, filter []byte) side
}

var lists = []listing{
	{"ListPodSandbox", "StreamPodSandboxes", runtimeService, sandboxes, byFilterID},
	{"ListContainers", "StreamContainers", runtimeService, containers, byContainerFilter},
	{"ListContainerStats", "StreamContainerStats", runtimeService, containerStats, byStatsFilter},
	{"ListPodSandboxStats", "StreamPodSandboxStats", runtimeService, sandboxStats, byFilterID},
	{"ListPodSandboxMetrics", "StreamPodSandboxMetrics", runtimeService, sandboxMetrics, func(*routes, []byte) side { return toBoth }},
	{"ListImages", "StreamImages", imageService, images, byImageFilter},
}

// byFilterID is for filters whose field 1 is the id of what is listed.
func byFilterID(r *routes, filter []byte) side { return r.filter(string(field(filter, 1))) }

func byContainerFilter(r *routes, filter []byte) side { return r.either(filter, 1, 3) }

func byStatsFilter(r *routes, filter []byte) side { return r.either(filter, 1, 2) }

// either is for filters with the ids of a container and of its sandbox.
func (r *routes) either(filter []byte, container, sandbox int) side {
	for _, n := range []int{container, sandbox} {
		if s := r.filter(string(field(filter, protowire.Number(n)))); s != toBoth {
			return s
		}
	}
	return toBoth
}

func byImageFilter(r *routes, filter []byte) side {
	var f runtimeapi.ImageFilter
	if proto.Unmarshal(filter, &f) != nil || f.GetImage().GetImage() == "" {
		return toBoth
	}
	return r.image(f.GetImage(), nil)
}

// list joins both runtimes' items, the primary's first. Without the primary's
// there is no answer.
func (p *Proxy) list(c *call, l listing) error {
	switch l.side(&p.routes, field(c.in.bytes(), 1)) {
	case toPrimary:
		return p.primaryOnly(c)
	case toVM:
		return c.answer(newFrame(p.vmList(c, l)), nil)
	}
	ours := p.fetch(c, l)
	out, err := c.ask(p.primary)
	if err != nil {
		return err
	}
	out.parts = append(out.parts, <-ours)
	return c.answer(out, nil)
}

// fetch asks the VM runtime in the background, until the call ends, if what it
// told last is not known to be true still.
func (p *Proxy) fetch(c *call, l listing) <-chan []byte {
	ours := make(chan []byte, 1)
	if len(field(c.in.bytes(), 1)) == 0 {
		if list, ok := p.known.current(l.of); ok {
			ours <- list
			return ours
		}
	}
	go func() { ours <- p.vmList(c, l) }()
	return ours
}

// vmList is the VM runtime's answer, or when it has none to give, what it
// answered last: an item that is missing would be dead to kubelet, while one
// that is out of date does no harm.
func (p *Proxy) vmList(c *call, l listing) []byte {
	ctx, cancel := p.brief(c.ctx)
	defer cancel()
	request := c.in.bytes()
	asked := p.known.asked()
	out, err := p.vm.invoke(ctx, l.service+l.unary, newFrame(request))
	p.slow.Store(status.Code(err) == codes.DeadlineExceeded)
	if err != nil {
		p.log.Warn("the VM runtime has not answered, what it answered last stands in", "method", l.unary, "error", err)
		return p.known.filtered(l.of, request)
	}
	if len(field(request, 1)) == 0 {
		p.known.learn(l.of, out.bytes(), asked)
	}
	return out.bytes()
}

// batch is about how many bytes of items go into a message of a stream.
const batch = 1 << 20

// streamList passes the primary's stream on and lets the VM runtime's items
// follow. If the primary has no such method neither has the proxy, and kubelet
// falls back to the unary list.
func (p *Proxy) streamList(c *call, l listing) error {
	to := l.side(&p.routes, field(c.in.bytes(), 1))
	if to == toPrimary {
		return c.relay(p.primary)
	}
	ours := p.fetch(c, l)
	if to == toBoth {
		if err := c.relay(p.primary); err != nil {
			return err
		}
	}
	return sendBatches(c.stream, <-ours)
}

func sendBatches(stream grpc.ServerStream, list []byte) error {
	var part []byte
	for _, item := range items(list) {
		if part = appendItem(part, item); len(part) < batch {
			continue
		}
		if err := stream.SendMsg(newFrame(part)); err != nil {
			return err
		}
		part = nil
	}
	if part == nil {
		return nil
	}
	return stream.SendMsg(newFrame(part))
}
