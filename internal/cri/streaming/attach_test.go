package streaming_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// client is how kubelet connects (SPDY), or a browser (WebSocket).
type client func(h *harness, t *testing.T, req *runtimeapi.AttachRequest) remotecommand.Executor

var clients = map[string]client{
	"spdy": func(h *harness, t *testing.T, req *runtimeapi.AttachRequest) remotecommand.Executor {
		e, err := remotecommand.NewSPDYExecutor(&restclient.Config{}, http.MethodPost, h.attachURL(t, req))
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
	"websocket": func(h *harness, t *testing.T, req *runtimeapi.AttachRequest) remotecommand.Executor {
		e, err := remotecommand.NewWebSocketExecutorForProtocols(&restclient.Config{}, http.MethodGet, h.attachURL(t, req).String(), "v4.channel.k8s.io")
		if err != nil {
			t.Fatal(err)
		}
		return e
	},
}

func eachClient(t *testing.T, test func(t *testing.T, c client)) {
	for name, c := range clients {
		t.Run(name, func(t *testing.T) { test(t, c) })
	}
}

// sizes is a window that is resized again and again.
type sizes struct{ left int }

func (s *sizes) Next() *remotecommand.TerminalSize {
	if s.left == 0 {
		return nil
	}
	s.left--
	return &remotecommand.TerminalSize{Width: 80, Height: uint16(s.left)}
}

// watcher closes seen when a text has been written to it.
type watcher struct {
	text string
	seen chan struct{}

	mu  sync.Mutex
	got bytes.Buffer
}

func watch(text string) *watcher { return &watcher{text: text, seen: make(chan struct{})} }

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.got.String(), w.text)
	w.got.Write(p)
	if !before && strings.Contains(w.got.String(), w.text) {
		close(w.seen)
	}
	return len(p), nil
}

// A person types, resizes the window many times, and the VM ends.
func TestAttachTerminal(t *testing.T) {
	eachClient(t, func(t *testing.T, c client) {
		h := newHarness(t)
		in, keys := io.Pipe()
		out := watch("uname -a")
		ended := make(chan error, 1)
		exec := c(h, t, &runtimeapi.AttachRequest{Stdin: true, Stdout: true, Tty: true})
		go func() {
			ended <- exec.StreamWithContext(t.Context(), remotecommand.StreamOptions{
				Stdin: in, Stdout: out, Tty: true, TerminalSizeQueue: &sizes{left: 500},
			})
		}()
		io.WriteString(keys, "uname -a")
		within(t, "the echo", out.seen)
		if err := h.runtime.StopContainer(t.Context(), h.container, 0); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the session ended with %v", err)
		}
		keys.Close()
		h.stop()
	})
}

// kubectl attach without -i and -t only watches; when it leaves, nothing else
// than the end of its connection tells.
func TestAttachWatcherLeaves(t *testing.T) {
	eachClient(t, func(t *testing.T, c client) {
		h := newHarness(t)
		left := make(chan struct{})
		h.runtime.Console = func(ctx context.Context, _ <-chan struct{}, in io.Reader, out io.Writer) error {
			if in != nil {
				t.Error("stdin, which was not asked for")
			}
			io.WriteString(out, "login: ")
			<-ctx.Done() // a silent guest
			close(left)
			return ctx.Err()
		}
		ctx, leave := context.WithCancel(t.Context())
		out := watch("login: ")
		exec := c(h, t, &runtimeapi.AttachRequest{Stdout: true, Stderr: true})
		ended := make(chan error, 1)
		go func() {
			ended <- exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: out, Stderr: io.Discard})
		}()
		within(t, "the prompt", out.seen)
		leave()
		within(t, "the end of the session", left)
		<-ended
	})
}

// kubelet's connection breaks without a farewell.
func TestAttachConnectionBreaks(t *testing.T) {
	h := newHarness(t)
	left := make(chan struct{})
	entered := make(chan struct{})
	h.runtime.Console = func(ctx context.Context, _ <-chan struct{}, _ io.Reader, _ io.Writer) error {
		close(entered)
		<-ctx.Done()
		close(left)
		return ctx.Err()
	}
	nc, conn := dialSPDY(t, h)
	openStreams(t, conn, "error", "stdout")
	within(t, "the session", entered)
	nc.(*net.TCPConn).SetLinger(0)
	nc.Close()
	within(t, "the end of the session", left)
}

func TestAttachError(t *testing.T) {
	eachClient(t, func(t *testing.T, c client) {
		h := newHarness(t)
		h.runtime.Console = func(context.Context, <-chan struct{}, io.Reader, io.Writer) error {
			return errors.New("the console is gone")
		}
		exec := c(h, t, &runtimeapi.AttachRequest{Stdout: true, Stderr: true})
		err := exec.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "the console is gone") {
			t.Errorf("the person is told %v", err)
		}
	})
}

// A client that does not read is cut off by the console; the farewell to it
// must not hold up the session's end.
func TestAttachSlowClient(t *testing.T) {
	h := newHarness(t)
	h.runtime.Console = func(_ context.Context, _ <-chan struct{}, _ io.Reader, out io.Writer) error {
		stuck := make(chan struct{})
		go func() {
			defer close(stuck)
			flood := make([]byte, 1<<20)
			for {
				if _, err := out.Write(flood); err != nil {
					return
				}
			}
		}()
		select {
		case <-stuck:
			return errors.New("the flood ended early")
		case <-time.After(200 * time.Millisecond):
			return errors.New("the client is too slow")
		}
	}
	_, conn := dialSPDY(t, h) // whose stdout nobody reads
	openStreams(t, conn, "error", "stdout")
	done := make(chan struct{})
	go func() { h.stop(); close(done) }()
	within(t, "the end of the server", done)
	conn.Close()
}

// The daemon ends while somebody is attached.
func TestAttachServerEnds(t *testing.T) {
	h := newHarness(t)
	exec := clients["spdy"](h, t, &runtimeapi.AttachRequest{Stdin: true, Stdout: true, Tty: true})
	in, keys := io.Pipe()
	defer keys.Close()
	out := watch("x")
	ended := make(chan error, 1)
	go func() {
		ended <- exec.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: in, Stdout: out, Tty: true})
	}()
	io.WriteString(keys, "x")
	within(t, "the echo", out.seen)
	begin := time.Now()
	h.stop()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	<-ended
}

// dialSPDY connects as kubelet does, and hands out the network connection too.
func dialSPDY(t *testing.T, h *harness) (net.Conn, httpstream.Connection) {
	t.Helper()
	u := h.attachURL(t, &runtimeapi.AttachRequest{Stdout: true})
	nc, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }}
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: transport})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, "v4.channel.k8s.io")
	res, err := upgrader.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := upgrader.NewConnection(res)
	if err != nil {
		t.Fatal(err)
	}
	return nc, conn
}

func openStreams(t *testing.T, conn httpstream.Connection, types ...string) {
	t.Helper()
	for _, kind := range types {
		if _, err := conn.CreateStream(http.Header{"Streamtype": {kind}}); err != nil {
			t.Fatal(err)
		}
	}
}
