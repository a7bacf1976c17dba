package podrun

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	//lint:ignore SA1019 client-go takes this package's connections, not yet those of its successor
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/terminal"
)

// Console connects in and out to the VM's serial console until the VM ends or
// ctx does; an in that ends, or is nil, leaves out connected. It goes through
// the daemon's unix socket, so it needs no network to be shared with the daemon.
func (c *Client) Console(ctx context.Context, id string, in io.Reader, out io.Writer) error {
	resp, err := c.Attach(ctx, &runtimeapi.AttachRequest{ContainerId: id, Stdin: in != nil, Stdout: true})
	if err != nil {
		return c.RPCError("connecting to the console", err)
	}
	u, err := url.Parse(resp.GetUrl())
	if err != nil {
		return err
	}
	exec, err := c.executor(u)
	if err != nil {
		return err
	}
	return exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out})
}

func (c *Client) executor(u *url.URL) (remotecommand.Executor, error) {
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: c.api.Transport})
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForTransports(upgrader, upgrader, http.MethodPost, u)
}

// left says why a person is no longer at a console.
type left int

const (
	leftByEnd       left = iota // the VM ended
	leftByInterrupt             // the person wants the pod to end, or ctx has
	leftByDetach                // the person typed Ctrl-]
	leftByHangup                // what was printed to is gone: a closed terminal, a pipe nobody reads
	leftByFailure               // the session broke
)

// seat is where a person sits: what is typed and shown there.
type seat struct {
	in   *os.File
	out  io.Writer
	keys *terminal.Keyboard
	// piped is read when in is no terminal; nil for a guest that gets no input then.
	piped io.Reader
}

// events are what ends a visit besides the session itself. A nil channel never does.
type events struct {
	end         <-chan struct{} // the VM ended
	interrupted <-chan struct{}
}

// visit connects the seat to a VM's console once. The terminal is raw
// meanwhile, so nobody may print anything on it; on return it is as before.
func (s *seat) visit(ctx context.Context, c *Client, container string, e events) (left, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v := visit{events: e, answers: c.answers, out: newGate(s.out), closed: make(chan error, 1)}
	in := s.piped
	if terminal.Interactive(s.in, s.out) {
		restore, err := terminal.Raw(s.in)
		if err != nil {
			return leftByFailure, err
		}
		defer restore()
		in, v.detached = s.keys.Reader(ctx)
	}
	go func() { v.closed <- c.Console(ctx, container, in, v.out) }()
	why, err := v.wait(ctx)
	v.out.close()
	return why, err
}

// visit is one session under way.
type visit struct {
	events
	out      *gate
	detached <-chan struct{}
	closed   chan error // gets one value, when the session has ended
	answers  func(context.Context) bool
}

const (
	// endGrace is how long a VM may take to be EXITED after its console closed.
	endGrace = time.Second
	// drainGrace is how long a console may take to close after the VM ended.
	drainGrace = 2 * time.Second
)

func (v *visit) wait(ctx context.Context) (left, error) {
	select {
	case <-v.end:
		// The last words are perhaps still under way.
		select {
		case <-v.closed:
		case <-time.After(drainGrace):
		case <-ctx.Done():
		}
		return leftByEnd, nil
	case <-v.detached:
		return leftByDetach, nil
	case <-v.interrupted:
		return leftByInterrupt, nil
	case <-ctx.Done():
		return leftByInterrupt, nil
	case <-v.out.broken:
		return leftByHangup, nil
	case err := <-v.closed:
		return v.afterClose(ctx, err)
	}
}

// afterClose finds out why a session closed by itself: most often because the
// VM ended, which is told in a moment, or because the daemon did.
func (v *visit) afterClose(ctx context.Context, cause error) (left, error) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	timeout := time.After(endGrace)
	for {
		select {
		case <-v.end:
			return leftByEnd, nil
		case <-v.interrupted:
			return leftByInterrupt, nil
		case <-ctx.Done():
			return leftByInterrupt, nil
		case <-tick.C:
			if !v.answers(ctx) {
				return leftByFailure, errAway
			}
		case <-timeout:
			return leftByFailure, cmp.Or(cause, errClosed)
		}
	}
}

var (
	errAway   = errors.New("the daemon does not answer")
	errClosed = errors.New("the daemon closed it")
)

// gate passes on what is written until it is closed. A session does not end
// because what it prints cannot be written, so the gate tells that.
type gate struct {
	broken chan struct{} // closed by the first write that fails

	mu     sync.Mutex
	to     io.Writer
	closed bool
}

func newGate(to io.Writer) *gate { return &gate{to: to, broken: make(chan struct{})} }

// Write implements io.Writer.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, io.ErrClosedPipe
	}
	n, err := g.to.Write(p)
	if err != nil {
		g.closed = true
		close(g.broken)
	}
	return n, err
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
