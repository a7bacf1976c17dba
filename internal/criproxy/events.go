package criproxy

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// events is one client's stream of container events, which two runtimes feed.
type events struct {
	proxy *Proxy
	call  *call
	mu    sync.Mutex // one message at a time
}

// reconnectAfter is the pause before the VM runtime is asked for its events
// again.
const reconnectAfter = time.Second

// containerEvents ends when the primary's events end. The VM runtime's may
// come and go: kubelet gives up on events for good after five ends.
func (p *Proxy) containerEvents(c *call) error {
	ctx, cancel := context.WithCancel(c.ctx)
	e := &events{proxy: p, call: c}
	var done sync.WaitGroup
	defer done.Wait()
	defer cancel()
	up, err := e.open(ctx, p.primary)
	if err != nil {
		return err
	}
	done.Go(func() { e.followVM(ctx) })
	return ignoreEOF(e.pump(up))
}

func (e *events) open(ctx context.Context, b *backend) (grpc.ClientStream, error) {
	up, err := b.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, e.call.method)
	if err != nil {
		return nil, err
	}
	if err := up.SendMsg(e.call.in); err != nil {
		return nil, up.RecvMsg(new(frame)) // says why
	}
	return up, up.CloseSend()
}

// pump returns when the stream ends, with its error.
func (e *events) pump(up grpc.ClientStream) error {
	for {
		out := new(frame)
		if err := up.RecvMsg(out); err != nil {
			return err
		}
		if err := e.send(out); err != nil {
			return err
		}
	}
}

func (e *events) send(m any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.call.stream.SendMsg(m)
}

// followVM passes the VM runtime's events on, as long as the client is there.
// What happened while there were none is found out afterwards.
func (e *events) followVM(ctx context.Context) {
	p := e.proxy
	var before []*runtimeapi.Container // that ran when the events were lost
	for {
		err := e.follow(ctx, &before)
		if ctx.Err() != nil || status.Code(err) == codes.Unimplemented {
			return
		}
		p.log.Warn("the VM runtime's events have ended, they are asked for again", "error", err)
		if before == nil {
			before = p.known.running()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectAfter):
		}
	}
}

func (e *events) follow(ctx context.Context, before *[]*runtimeapi.Container) error {
	up, err := e.open(ctx, e.proxy.vm)
	if err != nil {
		return err
	}
	if err := e.catchUp(ctx, *before); err != nil {
		return err
	}
	*before = nil
	return e.pump(up)
}

// catchUp tells of the containers that have ended unseen.
func (e *events) catchUp(ctx context.Context, before []*runtimeapi.Container) error {
	if len(before) == 0 {
		return nil
	}
	now, err := e.proxy.vm.runtime().ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return err
	}
	for _, c := range before {
		if slices.ContainsFunc(now.GetContainers(), func(n *runtimeapi.Container) bool { return n.GetId() == c.GetId() && isRunning(n) }) {
			continue
		}
		if err := e.send(e.proxy.stopped(ctx, c)); err != nil {
			return err
		}
	}
	return nil
}

func isRunning(c *runtimeapi.Container) bool {
	return c.GetState() == runtimeapi.ContainerState_CONTAINER_RUNNING
}

// stopped is the event that a container has ended. It always has its
// sandbox's metadata, without which kubelet has no use for it.
func (p *Proxy) stopped(ctx context.Context, c *runtimeapi.Container) *runtimeapi.ContainerEventResponse {
	event := &runtimeapi.ContainerEventResponse{
		ContainerId:        c.GetId(),
		ContainerEventType: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
		CreatedAt:          time.Now().UnixNano(),
	}
	if got, err := p.vm.runtime().PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: c.GetPodSandboxId()}); err == nil {
		event.PodSandboxStatus = got.GetStatus()
	} else {
		event.PodSandboxStatus = p.known.sandboxStatus(c.GetPodSandboxId())
	}
	if got, err := p.vm.runtime().ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.GetId()}); err == nil {
		event.ContainersStatuses = append(event.ContainersStatuses, got.GetStatus())
	}
	return event
}

// running are the VM runtime's containers that ran when it was seen last.
func (k *known) running() []*runtimeapi.Container {
	all := []*runtimeapi.Container{}
	for _, item := range items(k.list(containers)) {
		c := new(runtimeapi.Container)
		if proto.Unmarshal(item, c) == nil && isRunning(c) {
			all = append(all, c)
		}
	}
	return all
}

// sandboxStatus is what is known of a sandbox that is gone.
func (k *known) sandboxStatus(id string) *runtimeapi.PodSandboxStatus {
	st := &runtimeapi.PodSandboxStatus{Id: id, Metadata: &runtimeapi.PodSandboxMetadata{}, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	for _, item := range items(k.list(sandboxes)) {
		var s runtimeapi.PodSandbox
		if itemID(item) == id && proto.Unmarshal(item, &s) == nil {
			st.Metadata, st.CreatedAt, st.Labels, st.Annotations = s.GetMetadata(), s.GetCreatedAt(), s.GetLabels(), s.GetAnnotations()
		}
	}
	return st
}
