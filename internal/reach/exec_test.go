package reach

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/qemulet/qemulet/internal/api"
)

// inContainer is what an exec runs. It implements remotecommand.Executor.
type inContainer func(command []string, in io.Reader, out, errOut io.Writer) error

func (f inContainer) ExecInContainer(_ context.Context, _, _, _ string, command []string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return f(command, in, out, errOut)
}

// execs makes the server run f, as kubelet would.
func (s *apiServer) execs(f func(pod string) inContainer) {
	s.exec = func(w http.ResponseWriter, r *http.Request, pod string) {
		q := r.URL.Query()
		remotecommand.ServeExec(w, r, f(pod), pod, "", q.Get("container"), q["command"], &remotecommand.Options{Stdin: true, Stdout: true, Stderr: true},
			time.Minute, 10*time.Second, remotecommand.SupportedStreamingProtocols)
	}
}

// relayTo is qemuletctl relay in front of a HTTP server.
func relayTo(t *testing.T, h http.Handler) inContainer {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return func(command []string, in io.Reader, out, _ io.Writer) error {
		if !slices.Equal(command, RelayCommand) {
			t.Errorf("command %q", command)
		}
		conn, err := dialTCP(server.Listener.Addr().String())
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(conn, in)
			_ = conn.Close()
		}()
		_, _ = io.Copy(out, conn)
		return nil
	}
}

func TestCallThroughTheAPIServer(t *testing.T) {
	s := newAPIServer(t, vmPod("default", "web", "a"), daemonPod("a"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.NodePath, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Node{Version: "1.2.3"})
	})
	mux.HandleFunc("GET /echo", func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\nhello ")
		_, _ = io.Copy(conn, rw)
	})
	relay := relayTo(t, mux)
	s.execs(func(string) inContainer { return relay })
	p, err := s.cluster("").Pod(t.Context(), "", "web")
	if err != nil {
		t.Fatal(err)
	}
	var n api.Node
	if err := p.Call(t.Context(), http.MethodGet, api.NodePath, nil, &n); err != nil || n.Version != "1.2.3" {
		t.Errorf("%+v, %v", n, err)
	}
	if err := p.Call(t.Context(), http.MethodGet, "/none", nil, &n); !NotFound(err) {
		t.Errorf("got %v", err)
	}
	conn, err := p.Upgrade(t.Context(), "/echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "world")
	got := make([]byte, len("hello world"))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello world" {
		t.Errorf("%q, %v", got, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Upgrade(t.Context(), "/none", nil); !NotFound(err) {
		t.Errorf("got %v", err)
	}
}

// What goes wrong on the way is said in the words of whoever knows.
func TestExecThatFails(t *testing.T) {
	s := newAPIServer(t, vmPod("default", "web", "a"), daemonPod("a"))
	for want, f := range map[string]inContainer{
		"qemuletctl: the daemon's api socket /run/x: no such file": func(_ []string, _ io.Reader, _, errOut io.Writer) error {
			io.WriteString(errOut, "qemuletctl: the daemon's api socket /run/x: no such file\n")
			return errors.New("exit 1")
		},
		"executable file not found": func([]string, io.Reader, io.Writer, io.Writer) error { return errors.New("executable file not found") },
	} {
		s.execs(func(string) inContainer { return f })
		p, err := s.cluster("").Pod(t.Context(), "", "web")
		if err != nil {
			t.Fatal(err)
		}
		_, streamErr := p.Upgrade(t.Context(), "/echo", nil)
		for _, err := range []error{p.Call(t.Context(), http.MethodGet, api.NodePath, nil, nil), streamErr} {
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the daemon of node a cannot be asked by an exec into the pod kube-system/qemulet-a") {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
	s.exec = func(w http.ResponseWriter, _ *http.Request, _ string) {
		http.Error(w, `pods "qemulet-a" is forbidden: User "joe" cannot create resource "pods/exec"`, http.StatusForbidden)
	}
	p, err := s.cluster("").Pod(t.Context(), "", "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Call(t.Context(), http.MethodGet, api.NodePath, nil, nil); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("got %v", err)
	}
}
