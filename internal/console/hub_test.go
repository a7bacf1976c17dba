package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newHub has a guest at its other end.
func newHub(t testing.TB, o HubOptions) (guest net.Conn, h *Hub) {
	t.Helper()
	guest, nc := socketPair(t)
	h = NewHub(nc, o)
	t.Cleanup(func() { must(t, h.Close()) })
	return guest, h
}

func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "console")
		conns[i], err = net.FileConn(f)
		must(t, err)
		must(t, f.Close())
	}
	t.Cleanup(func() { _ = conns[0].Close() })
	return conns[0], conns[1]
}

// attachment is a call of Attach under way.
type attachment struct {
	cancel context.CancelFunc
	result chan error
}

func attach(h *Hub, in io.Reader, out io.Writer) *attachment {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attachment{cancel: cancel, result: make(chan error, 1)}
	before := h.attachedClients()
	go func() { a.result <- h.Attach(ctx, in, out) }()
	for out != nil && !h.hasOther(before) && len(a.result) == 0 {
		runtime.Gosched()
	}
	return a
}

func (h *Hub) attachedClients() map[*client]struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.clients)
}

// hasOther reports whether someone attached since.
func (h *Hub) hasOther(before map[*client]struct{}) bool {
	for c := range h.attachedClients() {
		if _, known := before[c]; !known {
			return true
		}
	}
	return false
}

func (a *attachment) ends(t *testing.T, want error) {
	t.Helper()
	defer a.cancel()
	select {
	case err := <-a.result:
		if !errors.Is(err, want) {
			t.Fatalf("Attach: %v, want %v", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Attach does not return")
	}
}

// screen is a client that reads.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// stuckWriter is a client that does not read until it is released.
type stuckWriter struct {
	screen
	release chan struct{}
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	<-s.release
	return s.screen.Write(p)
}

func send(t *testing.T, c io.Writer, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, err)
}

func shows(t *testing.T, s *screen, text string) {
	t.Helper()
	eventually(t, "client sees "+text, func() bool { return s.String() == text })
}

func TestClientsSeeTheSame(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	send(t, guest, "nobody sees this\n")
	// The Hub has read it when it has read what is sent after it.
	var a, b screen
	first := attach(h, nil, &a)
	eventually(t, "nothing old", func() bool { send(t, guest, "."); return strings.HasSuffix(a.String(), ".") })
	second := attach(h, nil, &b)
	before := len(a.String())
	send(t, guest, "\nlogin: ")
	eventually(t, "both see it", func() bool {
		return strings.HasSuffix(a.String()[before:], "\nlogin: ") && strings.HasSuffix(b.String(), "\nlogin: ")
	})
	first.cancel()
	first.ends(t, context.Canceled)
	send(t, guest, "x")
	eventually(t, "the other stays", func() bool { return strings.HasSuffix(b.String(), "x") })
	must(t, guest.Close())
	second.ends(t, nil)
	<-h.Done()
}

func TestSlowClientIsCutOff(t *testing.T) {
	guest, h := newHub(t, HubOptions{ClientBytes: 1 << 20})
	var good screen
	stuck := &stuckWriter{release: make(chan struct{})}
	defer close(stuck.release)
	reader, slow := attach(h, nil, &good), attach(h, nil, stuck)
	text := strings.Repeat("x", 64<<10)
	var sent strings.Builder
	for range 40 { // at the pace of the good one
		send(t, guest, text)
		sent.WriteString(text)
		eventually(t, "the other reads on", func() bool { return len(good.String()) == sent.Len() })
	}
	slow.ends(t, ErrSlowClient)
	must(t, guest.Close())
	reader.ends(t, nil)
	equal(t, good.String() == sent.String(), true)
}

func TestQueuedOutputIsDeliveredAtTheEnd(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	stuck := &stuckWriter{release: make(chan struct{})}
	a := attach(h, nil, stuck)
	text := strings.Repeat("last words\n", 10000)
	send(t, guest, text)
	must(t, guest.Close())
	<-h.Done()
	close(stuck.release)
	a.ends(t, nil)
	equal(t, stuck.String() == text, true)
}

func TestEndWaitsForClientsOnlySoLong(t *testing.T) {
	guest, h := newHub(t, HubOptions{DrainTimeout: 50 * time.Millisecond})
	stuck := &stuckWriter{release: make(chan struct{})}
	defer close(stuck.release)
	a := attach(h, nil, stuck)
	send(t, guest, "bye")
	must(t, guest.Close())
	a.ends(t, ErrSlowClient)
}

func TestCloseDeliversLastWords(t *testing.T) {
	q := newQEMUSide(t)
	h := NewHub(q.line(t), HubOptions{})
	var s screen
	a := attach(h, nil, &s)
	text := strings.Repeat("reboot: Power down\n", 5000)
	q.print(t, text)
	must(t, h.Close())
	a.ends(t, nil)
	equal(t, s.String() == text, true)
}

func TestCloseOfALivingConsole(t *testing.T) {
	_, h := newHub(t, HubOptions{})
	var s screen
	out := attach(h, nil, &s)
	pr, pw := io.Pipe()
	defer pw.Close()
	in := attach(h, pr, nil)
	must(t, h.Close())
	must(t, h.Close())
	out.ends(t, nil)
	in.ends(t, nil)
	if err := h.Attach(context.Background(), nil, &s); err != nil {
		t.Fatalf("attached to a closed hub: %v", err)
	}
}

func TestNoWriteAfterAttachReturned(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	var plain bytes.Buffer // not safe for concurrent use: the race detector looks on
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = guest.Write([]byte("x"))
			}
		}
	})
	a := attach(h, nil, &plain)
	a.cancel()
	a.ends(t, context.Canceled)
	before := plain.Len()
	close(stop)
	wg.Wait()
	equal(t, plain.Len(), before)
}

func TestFailingOutput(t *testing.T) {
	guest, h := newHub(t, HubOptions{})
	pr, pw := io.Pipe()
	must(t, pr.CloseWithError(io.ErrClosedPipe))
	a := attach(h, nil, pw)
	send(t, guest, "x")
	a.ends(t, io.ErrClosedPipe)
}
