package streaming

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pumpChunk  = 4 << 10
	pumpChunks = 16
)

// connection is the ResponseWriter of a session. When the session takes the
// network connection over, it gets one that is read ahead of it, so that the
// client's leaving is noticed even while the session reads nothing.
type connection struct {
	http.ResponseWriter
	left func()

	taken atomic.Pointer[pump]
}

// Hijack implements http.Hijacker.
func (c *connection) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// A server's deadlines would end a session in the middle.
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	p := newPump(conn, buffered.Reader, c.left)
	c.taken.Store(p)
	return p, bufio.NewReadWriter(bufio.NewReader(p), bufio.NewWriter(p)), nil
}

// cut ends the network connection under its protocol.
func (c *connection) cut() {
	if p := c.taken.Load(); p != nil {
		_ = p.Close()
	}
}

// hurry gives the client a last moment to take what is being written to it.
func (c *connection) hurry() {
	if p := c.taken.Load(); p != nil {
		_ = p.SetWriteDeadline(time.Now().Add(farewellTimeout))
	}
}

// close ends the network connection if it was taken over. The protocols do
// not always do so when a session fails early.
func (c *connection) close() {
	c.cut()
	if p := c.taken.Load(); p != nil {
		<-p.done
	}
}

// pump reads a connection ahead of its reader, up to a bound.
type pump struct {
	net.Conn
	chunks  chan []byte
	done    chan struct{} // closed when nothing is read any more
	stop    chan struct{}
	stopped sync.Once
	err     error // of the connection, valid when chunks is closed

	mu   sync.Mutex // held by Read
	rest []byte
}

// newPump starts to read r, the buffered side of conn, and calls left when
// that is over. Close ends it.
func newPump(conn net.Conn, r io.Reader, left func()) *pump {
	p := &pump{
		Conn:   conn,
		chunks: make(chan []byte, pumpChunks),
		done:   make(chan struct{}),
		stop:   make(chan struct{}),
	}
	go p.run(r, left)
	return p
}

func (p *pump) run(r io.Reader, left func()) {
	defer close(p.done)
	defer close(p.chunks)
	defer left()
	buf := make([]byte, pumpChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 && !p.pass(append([]byte(nil), buf[:n]...)) {
			err = net.ErrClosed
		}
		if err != nil {
			p.err = err
			return
		}
	}
}

func (p *pump) pass(chunk []byte) bool {
	select {
	case p.chunks <- chunk:
		return true
	case <-p.stop:
		return false
	}
}

// Read implements net.Conn.
func (p *pump) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rest) == 0 {
		chunk, ok := <-p.chunks
		if !ok {
			return 0, p.err
		}
		p.rest = chunk
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Close implements net.Conn. It may be called more than once; the protocols
// wait for somebody to handle the error of a second time.
func (p *pump) Close() (err error) {
	p.stopped.Do(func() {
		close(p.stop)
		err = p.Conn.Close()
	})
	return err
}
