package console

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// ErrSlowClient ends the attachment of a client that does not take the
// console's output as fast as the guest writes it.
var ErrSlowClient = errors.New("console client reads too slowly")

const (
	defaultClientBytes = 256 << 10
	readBytes          = 4 << 10 // per VM for as long as it lives: kept small
)

// Terminal is a serial line: a Line, or a connection in its place.
type Terminal interface {
	// Read returns what the guest prints. Close makes it return what is left
	// and then an error.
	io.ReadWriteCloser
	// SetWriteDeadline bounds a Write to a guest that does not read.
	SetWriteDeadline(t time.Time) error
}

// HubOptions are the bounds of a Hub. Zero values mean the defaults.
type HubOptions struct {
	// ClientBytes is how much output may wait for one client before it is cut
	// off, in bytes. Default 256 KiB.
	ClientBytes int
	// DrainTimeout is how long a client may take for the output that waits for
	// it when the console ends. Default 5 s.
	DrainTimeout time.Duration
}

func (o HubOptions) withDefaults() HubOptions {
	if o.ClientBytes <= 0 {
		o.ClientBytes = defaultClientBytes
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = 5 * time.Second
	}
	return o
}

// Hub reads a VM's console and hands it to all who are attached. Without
// clients the output is dropped (the log has it). It runs one goroutine and is
// safe for concurrent use.
type Hub struct {
	term   Terminal
	opts   HubOptions
	done   chan struct{} // closed when nothing is read any more
	typing chan struct{} // holds one token: the right to write to the guest

	mu      sync.Mutex
	clients map[*client]struct{}
	ended   bool
}

// NewHub starts to read term, which belongs to the Hub from now on. The caller
// must Close the Hub, also when the console has ended by itself.
func NewHub(term Terminal, o HubOptions) *Hub {
	h := &Hub{
		term:    term,
		opts:    o.withDefaults(),
		done:    make(chan struct{}),
		typing:  make(chan struct{}, 1),
		clients: map[*client]struct{}{},
	}
	h.typing <- struct{}{}
	go h.read()
	return h
}

// Done is closed when the console has ended: QEMU is gone, or Close was called.
func (h *Hub) Done() <-chan struct{} { return h.done }

// Close ends the console and returns when the Hub no longer reads it. Attached
// clients still get what was printed by then. It may be called more than once.
func (h *Hub) Close() error {
	err := h.term.Close()
	<-h.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (h *Hub) read() {
	defer close(h.done)
	defer h.end()
	buf := make([]byte, readBytes)
	for {
		n, err := h.term.Read(buf)
		h.broadcast(buf[:n])
		if err != nil {
			return
		}
	}
}

func (h *Hub) broadcast(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if !c.put(p) {
			delete(h.clients, c)
		}
	}
}

func (h *Hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	for c := range h.clients {
		c.finish()
	}
	clear(h.clients)
}

// join adds a client, unless the console has ended.
func (h *Hub) join(c *client) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.clients[c] = struct{}{}
	return true
}

func (h *Hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
}
