package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// greetingTimeout bounds the negotiation when the caller does not. A second
// client of the same monitor connects well and never gets a greeting.
const greetingTimeout = 10 * time.Second

// Conn is a negotiated QMP connection. All methods may be called by many
// goroutines at once. It owns its socket and one goroutine, which end with
// [Conn.Close] or with QEMU.
type Conn struct {
	nc      net.Conn
	version goqemu.Version

	writing chan struct{} // holds one token: the right to write
	unsent  []byte        // rest of a command whose sender gave up; needs the token

	mu      sync.Mutex
	closing bool
	err     error
	lastID  uint64
	pending map[uint64]chan<- reply // nil: nobody waits any more
	subs    map[*Subscription]struct{}
	early   []json.RawMessage // events that came before the first subscriber
	taps    []tap

	greeted chan goqemu.Version
	done    chan struct{}
}

// tap sees a connection's events as they came. It is called by the reader and
// must not block.
type tap interface {
	event(line []byte) // line is valid during the call only
	ended()
}

// Dial connects to the monitor socket at path, reads the greeting and negotiates
// (qmp_capabilities), all before ctx ends, or within 10 seconds if ctx has no
// deadline.
func Dial(ctx context.Context, path string) (*Conn, error) {
	ctx, cancel := negotiationContext(ctx)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	c, err := New(ctx, nc)
	if err != nil {
		return nil, fmt.Errorf("%w (socket %s)", err, path)
	}
	return c, nil
}

// New is [Dial] over a socket that is already connected. It takes ownership of
// nc, also when it fails.
func New(ctx context.Context, nc net.Conn) (*Conn, error) {
	ctx, cancel := negotiationContext(ctx)
	defer cancel()
	c := &Conn{
		nc:      nc,
		writing: make(chan struct{}, 1),
		pending: make(map[uint64]chan<- reply),
		greeted: make(chan goqemu.Version, 1),
		done:    make(chan struct{}),
	}
	c.writing <- struct{}{}
	go c.read()
	if err := c.negotiate(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func negotiationContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, greetingTimeout)
}

func (c *Conn) negotiate(ctx context.Context) error {
	select {
	case c.version = <-c.greeted:
	case <-ctx.Done():
		return fmt.Errorf("qmp: no greeting from QEMU, which serves one client at a time: %w", ctx.Err())
	case <-c.done:
		// A greeting may have come just before the end; then the command
		// below meets the end and names it.
		select {
		case c.version = <-c.greeted:
		default:
			return fmt.Errorf("qmp: waiting for the greeting: %w", c.Err())
		}
	}
	return c.Do(ctx, "qmp_capabilities", nil, nil)
}

// Version returns the version that QEMU gave in its greeting.
func (c *Conn) Version() goqemu.Version { return c.version }

// Done returns a channel that is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns nil while the connection lives, then why it ended: [ErrClosed]
// after Close, an error that wraps [io.ErrUnexpectedEOF] when QEMU went away.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and returns when its goroutine has ended and all
// subscriptions are closed. Commands under way fail with [ErrClosed]. It may be
// called any number of times, and always returns nil.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.nc.Close()
	<-c.done
	return nil
}

// read hands out what QEMU sends until the connection ends.
func (c *Conn) read() {
	lines := newLineReader(c.nc, maxLine)
	for {
		line, err := lines.next()
		if err == nil && len(line) > 0 {
			err = c.dispatch(line)
		}
		if err != nil {
			c.end(peerGone(err))
			return
		}
	}
}

func (c *Conn) dispatch(line []byte) error {
	m, err := parseMessage(line)
	switch {
	case err != nil:
		return err
	case m.Greeting != nil:
		c.greet(m.Greeting.Version)
	case m.Event != "":
		c.publish(line)
	case m.isReply():
		c.answer(m)
	}
	// Anything else is something that a later QEMU may have to say.
	return nil
}

func (c *Conn) greet(v goqemu.Version) {
	select {
	case c.greeted <- v:
	default: // a second greeting says nothing new
	}
}

// end records why the connection ended and lets go of all who wait on it.
func (c *Conn) end(err error) {
	c.nc.Close()
	c.mu.Lock()
	if c.closing || errors.Is(err, ErrClosed) {
		err = ErrClosed
	}
	c.err = err
	for s := range c.subs {
		close(s.c)
	}
	c.subs = nil
	taps := c.taps
	c.taps = nil
	c.mu.Unlock()
	for _, t := range taps {
		t.ended()
	}
	close(c.done)
}
