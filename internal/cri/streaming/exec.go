package streaming

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// maxInput bounds the standard input of a program in a guest, in bytes: a guest
// agent takes all of it at once. Of the output it keeps as much, of each stream.
const maxInput = 16 << 20

// Exec returns a URL at which a program runs in the guest, without a terminal.
// It gets its input when the client has sent all of it, and its output is sent
// when it has ended.
func (s *Server) Exec(req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if !req.Stdin && !req.Stdout && !req.Stderr {
		return nil, fmt.Errorf("no stream is asked for: ask for at least one of stdin, stdout and stderr: %w", errdefs.ErrInvalidArgument)
	}
	u, err := s.issue("exec", func(w http.ResponseWriter, r *http.Request, c *connection) {
		options := &remotecommand.Options{Stdin: req.Stdin, Stdout: req.Stdout, Stderr: req.Stderr}
		remotecommand.ServeExec(w, r, executor{s, c, req}, "", "", req.ContainerId, req.Cmd, options,
			idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	})
	return &runtimeapi.ExecResponse{Url: u}, err
}

// executor is one exec session, as remotecommand calls it.
type executor struct {
	server *Server
	conn   *connection
	req    *runtimeapi.ExecRequest
}

// ExecInContainer implements remotecommand.Executor. An exit code other than 0
// is an utilexec.ExitError.
func (e executor) ExecInContainer(ctx context.Context, _, _, id string, command []string, in io.Reader, out, stderr io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	e.server.discard(resize)
	input, err := e.input(in)
	if err != nil {
		return err
	}
	got, err := e.server.runtime.Exec(ctx, id, command, input)
	if err != nil {
		return err
	}
	// What is left to say to the client must not wait for one that does not read.
	e.conn.hurry()
	if err := send(out, e.req.Stdout, got.Stdout); err != nil {
		return err
	}
	if err := send(stderr, e.req.Stderr, got.Stderr); err != nil {
		return err
	}
	if got.Truncated {
		return fmt.Errorf("the output is cut off: it has more than %d MiB, which is what a guest agent keeps: copy the file by ssh", maxInput>>20)
	}
	if code := int(got.ExitCode); code != 0 {
		return utilexec.CodeExitError{Code: code, Err: fmt.Errorf("exit status %d", code)}
	}
	return nil
}

func (e executor) input(in io.Reader) ([]byte, error) {
	if !e.req.Stdin || in == nil {
		return nil, nil
	}
	all, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err == nil && len(all) > maxInput {
		err = fmt.Errorf("stdin has more than %d MiB, which is what a guest agent takes: copy the file by ssh", maxInput>>20)
	}
	return all, err
}

// sendSize is how much is written at once, in bytes: a frame of SPDY has less
// than 16 MiB.
const sendSize = 1 << 20

// send writes to a stream that was asked for.
func send(to io.Writer, wanted bool, text []byte) error {
	if !wanted || to == nil {
		return nil
	}
	for part := range slices.Chunk(text, sendSize) {
		if _, err := to.Write(part); err != nil {
			return err
		}
	}
	return nil
}
