package qmp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// MuxOptions are the settings of a [Mux].
type MuxOptions struct {
	// Allow decides which commands are relayed, of clients that Serve accepts.
	Allow MuxRule

	// Audit is told of each command when it has been answered. It may be called
	// by several goroutines at once and holds up only the client concerned.
	Audit func(MuxRecord)

	// EventBytes bounds what a client may leave unread before an event cuts it
	// off. Zero means 256 KiB.
	EventBytes int
}

// MuxRule decides about one command and its arguments, which are nil or a JSON
// object; its error is what the client is told. Nil allows all. It may be called by
// several goroutines at once.
type MuxRule func(command string, args json.RawMessage) error

// MuxRecord says what was relayed for whom. Arguments are left out: some carry
// secrets.
type MuxRecord struct {
	Client   uint64 // number of the client, from 1
	PID, UID int    // of the client's process, -1 if unknown
	Command  string
	Verb     string // of a human-monitor-command: the first word of its line
	Start    time.Time
	Duration time.Duration
	Refused  bool  // by a MuxRule: QEMU has not seen it
	Err      error // nil, the refusal, an *Error of QEMU, or why no answer came
}

// Mux lets any number of QMP clients share one connection. To each of them it looks
// like QEMU: greeting, negotiation, ids of any type, errors and events. It offers
// no out-of-band execution, and descriptors cannot be passed through it.
//
// Each client's commands are relayed one at a time, in order. One that does not
// read its answers gets no more of its commands executed; one that lets events
// pile up is cut off. Neither holds up anyone else.
type Mux struct {
	conn *Conn
	opts MuxOptions

	mu        sync.Mutex
	closed    bool
	lastID    uint64
	clients   map[*muxClient]struct{}
	listeners map[net.Listener]context.CancelFunc
	running   sync.WaitGroup
}

const defaultEventBytes = 256 << 10

// NewMux shares c, which stays the caller's.
func NewMux(c *Conn, opts MuxOptions) *Mux {
	if opts.EventBytes <= 0 {
		opts.EventBytes = defaultEventBytes
	}
	m := &Mux{
		conn:      c,
		opts:      opts,
		clients:   make(map[*muxClient]struct{}),
		listeners: make(map[net.Listener]context.CancelFunc),
	}
	c.addTap(m)
	return m
}

// Serve accepts clients on l, of which it takes ownership, until [Mux.Close] (then
// it returns nil) or until the shared connection ends (then it returns why).
func (m *Mux) Serve(l net.Listener) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if !m.addListener(l, cancel) {
		l.Close()
		return m.conn.Err()
	}
	for {
		nc, err := l.Accept()
		if err == nil {
			m.welcome(ctx, nc)
			continue
		}
		if m.isClosed() {
			return m.endOfService()
		}
		if !outOfDescriptors(err) || !rest(ctx) {
			m.removeListener(l)
			return fmt.Errorf("qmp: accept client: %w", err)
		}
	}
}

// outOfDescriptors tells of a state that passes: the client waits in the backlog.
func outOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS)
}

// rest holds back the next accept after one that failed for want of resources,
// which nothing announces the return of.
func rest(ctx context.Context) bool {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (m *Mux) endOfService() error {
	if err := m.conn.Err(); err != nil && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("qmp: shared connection ended: %w", err)
	}
	return nil
}

// Close stops serving, cuts off all clients and returns when no goroutine of the
// multiplexer is left. The shared connection is not touched. It always returns nil.
func (m *Mux) Close() error {
	m.conn.removeTap(m)
	for _, c := range m.shut() {
		c.cut()
	}
	m.running.Wait()
	return nil
}

// shut lets no one in any more and returns who is there.
func (m *Mux) shut() []*muxClient {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for l, cancel := range m.listeners {
		cancel()
		l.Close()
	}
	m.listeners = nil
	return m.all()
}

func (m *Mux) all() []*muxClient {
	clients := make([]*muxClient, 0, len(m.clients))
	for c := range m.clients {
		clients = append(clients, c)
	}
	return clients
}

// ended lets the clients have what is still queued, such as QEMU's last event.
func (m *Mux) ended() {
	for _, c := range m.shut() {
		c.finish()
	}
}

// event hands one event to all who have negotiated. The bytes are copied once and
// shared.
func (m *Mux) event(line []byte) {
	m.mu.Lock()
	clients := m.all()
	m.mu.Unlock()
	if len(clients) == 0 {
		return
	}
	line = append(bytes.Clone(line), "\r\n"...)
	for _, c := range clients {
		c.post(line, true)
	}
}

func (m *Mux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *Mux) addListener(l net.Listener, cancel context.CancelFunc) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.listeners[l] = cancel
	return true
}

func (m *Mux) removeListener(l net.Listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.listeners, l)
	l.Close()
}

// ServeConn serves one client, with a rule of its own in the place of
// MuxOptions.Allow. It takes ownership of nc, and returns when the client has left,
// ctx has ended, or nobody is served any more.
func (m *Mux) ServeConn(ctx context.Context, nc net.Conn, allow MuxRule) {
	c := m.add(nc, allow)
	if c == nil {
		return
	}
	defer context.AfterFunc(ctx, c.cut)()
	m.serve(ctx, c)
	<-c.left
}

// welcome starts to serve one client.
func (m *Mux) welcome(ctx context.Context, nc net.Conn) {
	if c := m.add(nc, m.opts.Allow); c != nil {
		m.serve(ctx, c)
	}
}

// add makes a client of a connection; nil, and the connection closed, when nobody
// is served any more. Its two goroutines count as running from here on.
func (m *Mux) add(nc net.Conn, allow MuxRule) *muxClient {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		nc.Close()
		return nil
	}
	m.lastID++
	c := newMuxClient(m, m.lastID, nc, allow)
	m.clients[c] = struct{}{}
	m.running.Add(2)
	return c
}

func (m *Mux) serve(ctx context.Context, c *muxClient) {
	go func() {
		defer m.running.Done()
		c.write()
	}()
	go func() {
		defer m.running.Done()
		c.serve(ctx)
	}()
}

func (m *Mux) leave(c *muxClient) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.clients, c)
}

// greetingLine is the greeting as QEMU writes it, with QEMU's version.
func (m *Mux) greetingLine() []byte {
	version, _ := json.Marshal(m.conn.Version()) // numbers and a string always encode
	return fmt.Appendf(nil, `{"QMP": {"version": %s, "capabilities": []}}`, version)
}
