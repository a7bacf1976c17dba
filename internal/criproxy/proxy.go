package criproxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/qemulet/qemulet/internal/changes"
)

// Options say between whom a proxy stands.
type Options struct {
	// Primary and VM are the sockets of the runtimes.
	Primary, VM string
	// RuntimeID is the VM runtime's name in pods' annotations and before the
	// slash in names of images: "virtlet.cloud".
	RuntimeID string
	// Handlers are the RuntimeClass handlers that mean the VM runtime.
	Handlers []string
	// StateDir keeps what the VM runtime has, for a start of the proxy while
	// the VM runtime is away; "" keeps nothing.
	StateDir string
	// Patience bounds how long lists, and all else that both runtimes are
	// asked for, wait for the VM runtime; 0 means 10 s.
	Patience time.Duration
	Log      *slog.Logger
}

// workers is about as many calls as kubelet makes at once.
const workers = 8

const defaultPatience = 10 * time.Second

// Proxy is a CRI server that has two runtimes behind it.
type Proxy struct {
	routes
	primary, vm *backend
	patience    time.Duration
	slow        atomic.Bool // the VM runtime let the last list wait in vain
	log         *slog.Logger
	methods     map[string]method
	server      *grpc.Server
	peers       peers
}

// method answers a call.
type method func(*call) error

// New prepares a proxy. Neither runtime needs to be there yet.
func New(o Options) (*Proxy, error) {
	known, err := openKnown(o.StateDir, changes.Beside(o.VM), o.Log)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		routes:   routes{id: o.RuntimeID, handlers: o.Handlers, known: known},
		patience: o.Patience,
		log:      o.Log,
	}
	if p.patience == 0 {
		p.patience = defaultPatience
	}
	if err := p.connect(o); err != nil {
		known.close()
		return nil, err
	}
	p.methods = p.table()
	p.server = grpc.NewServer(
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(p.handle),
		grpc.MaxRecvMsgSize(maxMessage),
		// Fixed windows: gRPC would measure with a ping per request how large they should be.
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.WriteBufferSize(buffer),
		// Their stacks have grown already to what a call needs; more calls than these get goroutines of their own.
		grpc.NumStreamWorkers(workers),
		grpc.WaitForHandlers(true),
	)
	// It says that the proxy itself answers, whatever the runtimes do.
	healthapi.RegisterHealthServer(p.server, health.NewServer())
	return p, nil
}

func (p *Proxy) connect(o Options) (err error) {
	if p.primary, err = newBackend(o.Primary); err != nil {
		return err
	}
	if p.vm, err = newBackend(o.VM); err != nil {
		return errors.Join(err, p.primary.conn.Close())
	}
	return nil
}

// Serve answers on a unix socket until Stop. It closes the listener.
func (p *Proxy) Serve(l net.Listener) error { return p.server.Serve(identified{l}) }

// Stop ends Serve. Calls have until the end of the context; kubelet connects
// and asks again by itself.
func (p *Proxy) Stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.server.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		p.server.Stop()
		<-done
	}
	p.known.close()
	return errors.Join(p.primary.conn.Close(), p.vm.conn.Close())
}

// table has the methods that are not simply routed by the id in field 1.
func (p *Proxy) table() map[string]method {
	table := map[string]method{
		"Version":               p.primaryOnly,
		"Status":                p.status,
		"RuntimeConfig":         p.runtimeConfig,
		"UpdateRuntimeConfig":   p.updateRuntimeConfig,
		"RunPodSandbox":         p.runPodSandbox,
		"ListMetricDescriptors": p.listMetricDescriptors,
		"GetContainerEvents":    p.containerEvents,
		"ImageStatus":           p.imageStatus,
		"PullImage":             p.pullImage,
		"RemoveImage":           p.removeImage,
		"ImageFsInfo":           p.imageFsInfo,
	}
	for _, l := range lists {
		table[l.unary] = func(c *call) error { return p.list(c, l) }
		table[l.stream] = func(c *call) error { return p.streamList(c, l) }
	}
	for _, name := range []string{
		"StopPodSandbox", "RemovePodSandbox", "PodSandboxStatus", "PodSandboxStats", "UpdatePodSandboxResources", "PortForward",
		"CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "ContainerStatus", "ContainerStats",
		"UpdateContainerResources", "ReopenContainerLog", "ExecSync", "Exec", "Attach", "CheckpointContainer",
	} {
		table[name] = p.byID
	}
	return table
}

// handle answers all calls there are.
func (p *Proxy) handle(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	c := &call{method: name, stream: stream, ctx: outgoing(stream.Context())}
	p.peers.count(c.ctx)
	if name == peersMethod {
		return stream.SendMsg(newFrame(p.peers.report()))
	}
	in := new(frame)
	switch err := stream.RecvMsg(in); {
	case errors.Is(err, io.EOF): // a stream on which the client says nothing
		return c.relay(p.primary)
	case err != nil:
		return err
	}
	c.in = in
	if answer, ok := p.methods[c.name()]; ok {
		return answer(c)
	}
	return c.relay(p.backend(p.owner(c)))
}

// owner is whose a call of an unknown method is: in CRI the id of what a call
// is about stands in field 1.
func (p *Proxy) owner(c *call) side {
	if c.name() == "" {
		return toPrimary
	}
	return p.object(string(field(c.in.bytes(), 1)))
}

func (p *Proxy) backend(s side) *backend {
	if s == toVM {
		return p.vm
	}
	return p.primary
}

func (p *Proxy) primaryOnly(c *call) error { return c.answer(c.ask(p.primary)) }

// byID is for calls about one sandbox or container.
func (p *Proxy) byID(c *call) error {
	to := p.owner(c)
	out, err := c.ask(p.backend(to))
	switch {
	case to == toVM && err == nil:
		p.known.remember(c.name(), c.in.bytes(), out.bytes())
	case to == toVM:
		err = p.explain(err)
	case err == nil && c.name() == "CreateContainer":
		p.known.primaryMade(string(field(out.bytes(), 1)))
	}
	return c.answer(out, err)
}

// explain says which runtime it is that cannot be reached. What the runtime
// itself has answered is not touched.
func (p *Proxy) explain(err error) error {
	if status.Code(err) != codes.Unavailable || !p.vm.away() {
		return err
	}
	return status.Errorf(codes.Unavailable, "the VM runtime at %s does not answer, is its service running? %s", p.vm.socket, status.Convert(err).Message())
}

// brief bounds what waits for the VM runtime on behalf of both. A runtime that
// hangs costs ordinary pods the whole patience once, and then little.
func (p *Proxy) brief(ctx context.Context) (context.Context, context.CancelFunc) {
	patience := p.patience
	if p.slow.Load() {
		patience /= 20
	}
	return context.WithTimeout(ctx, patience)
}
