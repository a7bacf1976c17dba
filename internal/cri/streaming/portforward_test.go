package streaming_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// guest listens as a guest's server does.
func guest(t *testing.T, h *harness, serve func(*net.TCPConn)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c.(*net.TCPConn)) }()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	h.runtime.Dial = func(ctx context.Context, port int32) (net.Conn, error) {
		if port != 80 {
			return nil, fmt.Errorf("dial tcp 10.1.2.3:%d: connection refused", port)
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// forward runs kubectl's port-forward and returns a local address and a
// function that ends it.
func forward(t *testing.T, h *harness, port int) (local string, leave func()) {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(&restclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, h.forwardURL(t))
	stop, ready, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	f, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- f.ForwardPorts() }()
	within(t, "the forwarding", ready)
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), func() { close(stop); <-done }
}

func connect(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// The guest answers after the client has finished its half.
func TestPortForwardHalfClose(t *testing.T) {
	h := newHarness(t)
	guest(t, h, func(c *net.TCPConn) {
		asked, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes", len(asked))
	})
	local, leave := forward(t, h, 80)
	for range 3 { // several connections over one session
		c := connect(t, local)
		c.Write(bytes.Repeat([]byte("x"), 1<<20))
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "1048576 bytes" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	leave()
}

// The guest sends much and closes; all of it arrives.
func TestPortForwardDownload(t *testing.T) {
	h := newHarness(t)
	guest(t, h, func(c *net.TCPConn) { c.Write(bytes.Repeat([]byte("y"), 4<<20)) })
	local, leave := forward(t, h, 80)
	if got, err := io.ReadAll(connect(t, local)); err != nil || len(got) != 4<<20 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	leave()
}

func TestPortForwardRefused(t *testing.T) {
	h := newHarness(t)
	guest(t, h, func(*net.TCPConn) {})
	if told := failure(t, h, "81"); !strings.Contains(told, "connection refused") {
		t.Errorf("the user is told %q", told)
	}
}

// failure opens one connection as kubelet does, sends "hello", and returns
// what the user is told.
func failure(t *testing.T, h *harness, port string) string {
	t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(&restclient.Config{})
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, h.forwardURL(t))
	conn, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	headers := http.Header{"Port": {port}, "Requestid": {"1"}, "Streamtype": {"error"}}
	errors, err := conn.CreateStream(headers)
	if err != nil {
		t.Fatal(err)
	}
	headers.Set("Streamtype", "data")
	data, err := conn.CreateStream(headers)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(data, "hello")
	told, _ := io.ReadAll(errors) // the stream is reset behind the text
	return string(told)
}

// The client leaves while the guest is silent: the guest's connection ends.
func TestPortForwardClientLeaves(t *testing.T) {
	h := newHarness(t)
	entered, ended := make(chan struct{}), make(chan struct{})
	guest(t, h, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 5))
		close(entered)
		c.Read(make([]byte, 1))
		close(ended)
	})
	local, leave := forward(t, h, 80)
	fmt.Fprint(connect(t, local), "hello")
	within(t, "the connection", entered)
	leave()
	within(t, "the end of the guest's connection", ended)
	h.waitForSessions(t)
}

// One user that does not read holds up neither others nor the end.
func TestPortForwardServerEnds(t *testing.T) {
	h := newHarness(t)
	flooding := make(chan struct{})
	guest(t, h, func(c *net.TCPConn) {
		close(flooding)
		for {
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	local, leave := forward(t, h, 80)
	user := connect(t, local)
	within(t, "the flood", flooding)
	if _, err := io.ReadFull(user, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { h.stop(); close(done) }()
	within(t, "the end of the server", done)
	leave()
}

func TestPortForwardRefusesPorts(t *testing.T) {
	h := newHarness(t)
	for _, port := range []int32{-1, 0, 65536} {
		_, err := h.PortForward(portRequest(h, port))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(port)) {
			t.Errorf("port %d: %v", port, err)
		}
	}
}

var errReset = errors.New("reset by the guest")

// A guest that breaks the connection is an error that the user is told.
func TestPortForwardGuestBreaks(t *testing.T) {
	h := newHarness(t)
	h.runtime.Dial = func(context.Context, int32) (net.Conn, error) {
		ours, guests := net.Pipe()
		go func() { io.ReadFull(guests, make([]byte, 5)); guests.Close() }()
		return &breaking{Conn: ours}, nil
	}
	if told := failure(t, h, "80"); !strings.Contains(told, errReset.Error()) {
		t.Errorf("the user is told %q", told)
	}
}

// breaking turns the end of a connection into a failure.
type breaking struct{ net.Conn }

func (b *breaking) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if err == io.EOF {
		err = errReset
	}
	return n, err
}

func portRequest(h *harness, ports ...int32) *runtimeapi.PortForwardRequest {
	return &runtimeapi.PortForwardRequest{PodSandboxId: h.sandbox, Port: ports}
}
