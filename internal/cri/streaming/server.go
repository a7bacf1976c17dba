package streaming

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	"github.com/qemulet/qemulet/internal/runtime"
)

const (
	// idleTimeout ends a connection on which nothing happens, as kubelet's does.
	idleTimeout = 4 * time.Hour
	// creationTimeout is how long a client may take to open its streams.
	creationTimeout = remotecommand.DefaultStreamCreationTimeout
	// farewellTimeout is how long a client that does not read holds up the end
	// of its session.
	farewellTimeout = 2 * time.Second
)

// Runtime is what sessions connect to.
type Runtime interface {
	// Attach connects in and out, of which one may be nil, to a VM's console
	// until ctx or the VM ends.
	Attach(ctx context.Context, id string, in io.Reader, out io.Writer) error
	// Exec runs a program in the guest, with all of its input, and returns all of
	// its output.
	Exec(ctx context.Context, id string, command []string, input []byte) (runtime.ExecResult, error)
	// DialPod connects to a TCP port of the guest.
	DialPod(ctx context.Context, sandboxID string, port int32) (net.Conn, error)
}

// Server hands out URLs and serves them. It is a http.Handler, so that it can
// be reached over several listeners. Its methods may be called concurrently.
type Server struct {
	runtime Runtime
	base    url.URL
	log     *slog.Logger
	tickets tickets
	mux     http.ServeMux
	// sessions counts goroutines that the protocols start and do not wait for.
	sessions sync.WaitGroup
}

// New makes a server whose URLs begin with base, which names the scheme and
// the address of a listener that serves it.
func New(rt Runtime, base url.URL, log *slog.Logger) *Server {
	s := &Server{runtime: plainly{rt}, base: base, log: log}
	s.tickets.now = time.Now
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		s.mux.HandleFunc(method+" /attach/{ticket}", s.serve("attach"))
		s.mux.HandleFunc(method+" /exec/{ticket}", s.serve("exec"))
		s.mux.HandleFunc(method+" /portforward/{ticket}", s.serve("portforward"))
	}
	return s
}

// ServeHTTP serves a URL that was handed out, once.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Wait waits until all sessions have ended, which they do soon after the
// contexts of their requests, or until ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.sessions.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sessions still run: %w", ctx.Err())
	}
}

// session serves one connection whose ticket was redeemed.
type session func(w http.ResponseWriter, r *http.Request, c *connection)

// Attach returns a URL that connects to the console of a container. The
// request must name at least one stream. It must not be changed afterwards.
func (s *Server) Attach(req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if !req.Stdin && !req.Stdout && !req.Stderr {
		return nil, fmt.Errorf("no stream is asked for: ask for at least one of stdin, stdout and stderr: %w", errdefs.ErrInvalidArgument)
	}
	u, err := s.issue("attach", func(w http.ResponseWriter, r *http.Request, c *connection) { s.serveAttach(w, r, c, req) })
	return &runtimeapi.AttachResponse{Url: u}, err
}

// PortForward returns a URL that connects to ports of a pod. Only clients that
// speak WebSocket must name the ports beforehand.
func (s *Server) PortForward(req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	for _, port := range req.Port {
		if port < 1 || port > 65535 {
			return nil, fmt.Errorf("port %d is not between 1 and 65535: %w", port, errdefs.ErrInvalidArgument)
		}
	}
	u, err := s.issue("portforward", func(w http.ResponseWriter, r *http.Request, c *connection) { s.servePortForward(w, r, c, req) })
	return &runtimeapi.PortForwardResponse{Url: u}, err
}

func (s *Server) issue(kind string, serve session) (string, error) {
	token, err := s.tickets.issue(kind, serve)
	if err != nil {
		return "", err
	}
	return s.base.JoinPath(kind, token).String(), nil
}

func (s *Server) serve(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		serve := s.tickets.redeem(kind, r.PathValue("ticket"))
		if serve == nil {
			http.Error(w, "this URL is unknown, used or older than a minute: ask the runtime for a new one", http.StatusNotFound)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		c := &connection{ResponseWriter: w, left: cancel}
		defer c.close()
		// Sessions end soon after their context; what is stuck in a write is
		// freed by the deadline.
		defer context.AfterFunc(ctx, c.hurry)()
		serve(c, r.WithContext(ctx), c)
	}
}

func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request, c *connection, req *runtimeapi.AttachRequest) {
	options := &remotecommand.Options{Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr, TTY: req.Tty}
	remotecommand.ServeAttach(w, r, attacher{s, c, req}, "", "", req.ContainerId, options,
		idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) servePortForward(w http.ResponseWriter, r *http.Request, c *connection, req *runtimeapi.PortForwardRequest) {
	// The protocol only ends with the connection.
	defer context.AfterFunc(r.Context(), c.cut)()
	portforward.ServePortForward(w, r, forwarder{s, r.Context()}, req.PodSandboxId, "", &portforward.V4Options{Ports: req.Port},
		idleTimeout, creationTimeout, portforward.SupportedProtocols)
}
