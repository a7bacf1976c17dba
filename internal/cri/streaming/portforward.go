package streaming

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// dialTimeout is how long a guest may take to accept a connection.
const dialTimeout = 30 * time.Second

// errClientLeft ends a session that has nobody left to report to.
var errClientLeft = errors.New("the client has left")

// forwarder is one port-forward connection, as portforward calls it for each
// TCP connection of the user.
type forwarder struct {
	server *Server
	ctx    context.Context // the connection's: the protocol's own never ends
}

// PortForward implements portforward.PortForwarder. It returns when both
// sides have finished or the client has left. Its error is shown to the user.
func (f forwarder) PortForward(_ context.Context, id, _ string, port int32, stream io.ReadWriteCloser) error {
	f.server.sessions.Add(1)
	defer f.server.sessions.Done()
	if err := answer(stream); err != nil {
		return nil // the client has left
	}
	guest, err := f.dial(id, port)
	if err != nil {
		return err
	}
	return join(f.ctx, guest, stream)
}

// answer tells the client that its stream is open. SPDY would do so a moment
// later by itself; but then a dial that fails at once could overtake it, and
// the client would hear of a reset stream instead of the reason. Writing to a
// stream whose answer cannot be sent any more waits for ever.
func answer(stream io.ReadWriteCloser) error {
	if s, ok := stream.(interface {
		SendReply(http.Header, bool) error
	}); ok {
		return s.SendReply(http.Header{}, false)
	}
	return nil
}

func (f forwarder) dial(id string, port int32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(f.ctx, dialTimeout)
	defer cancel()
	return f.server.runtime.DialPod(ctx, id, port)
}

// join copies both ways, passing on the end of each direction by itself, until
// both have ended, the guest has failed or ctx ends. It closes guest.
func join(ctx context.Context, guest net.Conn, stream io.ReadWriteCloser) error {
	up, down := make(chan struct{}), make(chan error, 1)
	go func() { defer close(up); copyUp(guest, stream) }()
	go func() { down <- copyDown(stream, guest) }()
	err := joined(ctx, up, down)
	_ = guest.Close()
	if err != nil {
		abort(stream)
		<-up
	}
	if errors.Is(err, errClientLeft) {
		return nil
	}
	return err
}

// joined waits for both directions; errClientLeft when ctx ends before.
func joined(ctx context.Context, up <-chan struct{}, down <-chan error) error {
	select {
	case err := <-down:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return errClientLeft
	}
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return errClientLeft
	}
}

// copyUp takes what the client sends until it sends no more, also when the
// guest takes no more: what the guest said before must still reach the client.
func copyUp(guest net.Conn, stream io.Reader) {
	if _, err := io.Copy(guest, stream); err != nil {
		_, _ = io.Copy(io.Discard, stream)
		return
	}
	if half, ok := guest.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // a guest that has closed meanwhile is no failure
	}
}

func copyDown(stream io.WriteCloser, guest io.Reader) error {
	from := &remembering{Reader: guest}
	_, err := io.Copy(stream, from)
	switch {
	case err == nil:
		_ = stream.Close() // tells the end; a client that has left needs no telling
		return nil
	case from.err != nil:
		return fmt.Errorf("receiving from the guest: %w", from.err)
	default:
		return errClientLeft
	}
}

// remembering tells errors of reading from those of writing after an io.Copy.
type remembering struct {
	io.Reader
	err error
}

func (r *remembering) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// abort ends both directions of a stream. What the client still sends would
// otherwise stay unread in front of its other streams.
func abort(stream io.Closer) {
	if r, ok := stream.(interface{ Reset() error }); ok {
		_ = r.Reset()
		return
	}
	_ = stream.Close()
}
