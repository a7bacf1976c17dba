package reach

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// ExecError is why an exec session ended that should have been a connection.
type ExecError struct {
	// Err is what the API server, kubelet or the runtime said.
	Err error
	// Stderr is what the program in the container said.
	Stderr string
}

func (e *ExecError) Error() string {
	words := strings.TrimSpace(e.Stderr)
	var exit utilexec.CodeExitError
	if errors.As(e.Err, &exit) && words != "" {
		return words
	}
	if words != "" {
		return e.Err.Error() + ": " + words
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *ExecError) Unwrap() error { return e.Err }

// Target is a container in which programs can be started.
type Target struct {
	Namespace, Pod, Container string
}

// execURL is the address of an exec that has stdin, stdout and stderr.
func execURL(cfg *rest.Config, t Target, command []string) (*url.URL, error) {
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, err
	}
	u := base.JoinPath("api", "v1", "namespaces", t.Namespace, "pods", t.Pod, "exec")
	u.RawQuery = url.Values{
		"container": {t.Container}, "command": command,
		"stdin": {"true"}, "stdout": {"true"}, "stderr": {"true"},
	}.Encode()
	return u, nil
}

// newExecutor speaks WebSocket, and SPDY to servers that do not know that, as
// kubectl does.
func newExecutor(cfg *rest.Config, u *url.URL) (remotecommand.Executor, error) {
	socket, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, u.String())
	if err != nil {
		return nil, err
	}
	older, err := remotecommand.NewSPDYExecutor(cfg, http.MethodPost, u)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(socket, older, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// dialExec starts the command and makes a connection of its stdin and stdout. ctx
// is not kept: the session ends with the connection, which the caller closes.
func dialExec(ctx context.Context, exec remotecommand.Executor) net.Conn {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	near, far := net.Pipe()
	c := &execConn{Conn: near, cancel: cancel}
	go func() {
		var stderr strings.Builder
		err := exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: far, Stdout: far, Stderr: &limited{to: &stderr}})
		c.ended(err, stderr.String())
		_ = far.Close()
	}()
	return c
}

// execConn is the near end of an exec session. When that ends, reads say why.
type execConn struct {
	net.Conn
	cancel context.CancelFunc

	mu  sync.Mutex
	err error
}

func (c *execConn) ended(err error, stderr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || stderr != "" {
		c.err = &ExecError{Err: cmp.Or(err, io.ErrUnexpectedEOF), Stderr: stderr}
	}
}

func (c *execConn) why(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.err != nil {
		return c.err
	}
	return err
}

// Read implements io.Reader.
func (c *execConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.why(err)
}

// Write implements io.Writer.
func (c *execConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.why(err)
}

// Close ends the session.
func (c *execConn) Close() error {
	err := c.Conn.Close()
	c.cancel()
	return err
}

// limited keeps the first of what a program says.
type limited struct{ to *strings.Builder }

const stderrLimit = 4096

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.to.Write(p[:min(len(p), max(0, stderrLimit-l.to.Len()))])
	return len(p), nil
}
