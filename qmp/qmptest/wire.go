package qmptest

import (
	"net"
	"sync"
	"time"
)

// Wire writes to a connection in ways in which a stream socket may deliver. The
// zero settings write each line at once and whole. Its methods may be called by
// several goroutines.
type Wire struct {
	// Fragment, if not zero, is the number of bytes written at a time. It is set
	// before the first line is sent.
	Fragment int

	conn  net.Conn
	mu    sync.Mutex
	held  []byte
	hold  bool
	dying bool
	left  int // bytes until death
}

// Line sends a line, ended as QEMU ends it.
func (w *Wire) Line(s string) { w.Raw(s + "\r\n") }

// Raw sends bytes as they are. Errors show at the other side only.
func (w *Wire) Raw(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held = append(w.held, s...); !w.hold {
		w.flush()
	}
}

// Hold collects what is sent from now on, for Release to send in one piece.
func (w *Wire) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = true
}

// Release sends what Hold has collected.
func (w *Wire) Release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = false
	w.flush()
}

// DieAfter closes the connection when that many more bytes are sent.
func (w *Wire) DieAfter(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dying, w.left = true, n
}

// Die closes the connection.
func (w *Wire) Die() { w.conn.Close() }

func (w *Wire) flush() {
	b := w.held
	w.held = nil
	if w.dying {
		b = b[:min(len(b), w.left)]
		w.left -= len(b)
	}
	w.conn.SetWriteDeadline(time.Now().Add(Patience))
	w.writeFragments(b)
	if w.dying && w.left == 0 {
		w.Die()
	}
}

func (w *Wire) writeFragments(b []byte) {
	for len(b) > 0 {
		n := len(b)
		if w.Fragment > 0 {
			n = min(n, w.Fragment)
		}
		if _, err := w.conn.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}
