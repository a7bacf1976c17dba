package streaming_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/cri/critwin"
	"github.com/qemulet/qemulet/internal/cri/streaming"
	"github.com/qemulet/qemulet/internal/httpd"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // the protocols' own
	goleak.VerifyTestMain(m,
		// The client's own, which sometimes outlives its connection.
		goleak.IgnoreTopFunction("k8s.io/client-go/tools/remotecommand.(*heartbeat).start"))
}

// patience bounds waits that end at once when all is well.
const patience = 20 * time.Second

// harness is a server on a TCP port over the twin.
type harness struct {
	*streaming.Server
	runtime   *critwin.Runtime
	sandbox   string
	container string
	stop      func()
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{runtime: &critwin.Runtime{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	h.Server = streaming.New(h.runtime, url.URL{Scheme: "http", Host: l.Addr().String()}, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpd.Serve(ctx, l, h, log) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		h.waitForSessions(t)
	})
	t.Cleanup(h.stop)
	h.createVM(t)
	return h
}

// waitForSessions fails when a session does not end.
func (h *harness) waitForSessions(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Wait(ctx); err != nil {
		t.Error(err)
	}
}

func (h *harness) createVM(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	var err error
	h.sandbox, err = h.runtime.RunSandbox(ctx, &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "a"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	h.container, err = h.runtime.CreateContainer(ctx, h.sandbox, &runtimeapi.ContainerConfig{Tty: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.runtime.StartContainer(ctx, h.container); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) attachURL(t *testing.T, req *runtimeapi.AttachRequest) *url.URL {
	t.Helper()
	req.ContainerId = h.container
	resp, err := h.Attach(req)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, resp.Url)
}

func (h *harness) forwardURL(t *testing.T, ports ...int32) *url.URL {
	t.Helper()
	resp, err := h.PortForward(&runtimeapi.PortForwardRequest{PodSandboxId: h.sandbox, Port: ports})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, resp.Url)
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: did not happen", what)
	}
}

// A URL is worth one connection.
func TestTicketIsUsedUp(t *testing.T) {
	h := newHarness(t)
	u := h.attachURL(t, &runtimeapi.AttachRequest{Stdout: true})
	for _, want := range []int{http.StatusBadRequest /* no upgrade was asked for */, http.StatusNotFound} {
		res, err := http.Get(u.String())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("status %d, want %d", res.StatusCode, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
