package streaming

import (
	"context"
	"io"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// attacher is one attach session, as remotecommand calls it.
type attacher struct {
	server *Server
	conn   *connection
	req    *runtimeapi.AttachRequest
}

// AttachContainer implements remotecommand.Attacher. ctx ends when the client
// has left. A VM has one output, so nothing is ever written to stderr.
func (a attacher) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, _ io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	a.server.discard(resize)
	r, w := a.wanted(in, out)
	err := a.server.runtime.Attach(ctx, id, r, w)
	// What is left to say to the client must not wait for one that does not read.
	a.conn.hurry()
	if ctx.Err() != nil {
		return nil // the client has left or the daemon is going: nobody to tell
	}
	return err
}

// discard takes what a serial line cannot use. Whoever does not read it would
// hold up its sender for ever.
func (s *Server) discard(resize <-chan remotecommand.TerminalSize) {
	if resize == nil {
		return
	}
	s.sessions.Go(func() {
		for range resize {
		}
	})
}

// wanted returns the streams that were asked for: WebSocket has the others
// too. A nil stream becomes a nil interface.
func (a attacher) wanted(in io.Reader, out io.WriteCloser) (io.Reader, io.Writer) {
	var r io.Reader
	var w io.Writer
	if a.req.Stdin && in != nil {
		r = in
	}
	if a.req.Stdout && out != nil {
		w = out
	}
	return r, w
}
