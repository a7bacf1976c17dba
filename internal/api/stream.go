package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
)

// StreamProtocol is what a client asks to upgrade to for paths that are streams of
// bytes: a GET with "Connection: Upgrade" and "Upgrade: qemulet-stream". After the
// answer 101 all bytes are the stream's. The session ends when either side closes
// its connection; half of it cannot be closed.
const StreamProtocol = "qemulet-stream"

// Stream is the daemon's end of a stream of bytes: it has all that the client has
// sent.
type Stream struct {
	net.Conn
	r *bufio.Reader
}

// Read implements io.Reader.
func (s *Stream) Read(p []byte) (int, error) { return s.r.Read(p) }

// SyscallConn implements syscall.Conn, by which the client's process is known.
func (s *Stream) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.Conn.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// serveStream serves a path that is a stream. open finds what it leads to, whose
// error the client is told; what that returns is then called with the stream, and
// a context that ends with the daemon.
func serveStream(open func(r *http.Request) (func(context.Context, *Stream), error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.EqualFold(r.Header.Get("Upgrade"), StreamProtocol) {
			http.Error(w, fmt.Sprintf("%s is a stream of bytes: ask with \"Connection: Upgrade\" and \"Upgrade: %s\"", r.URL.Path, StreamProtocol), http.StatusUpgradeRequired)
			return
		}
		serve, err := open(r)
		if err != nil {
			http.Error(w, err.Error(), code(err))
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		defer context.AfterFunc(r.Context(), func() { _ = conn.Close() })()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", StreamProtocol)
		if rw.Flush() == nil {
			serve(r.Context(), &Stream{Conn: conn, r: rw.Reader})
		}
	}
}

// ending calls end when there is nothing more to read.
type ending struct {
	from io.Reader
	end  context.CancelFunc
}

// Read implements io.Reader.
func (e *ending) Read(p []byte) (int, error) {
	n, err := e.from.Read(p)
	if err != nil {
		e.end()
	}
	return n, err
}

// join copies between the stream and other until either ends, and closes both.
func (s *Stream) join(ctx context.Context, other net.Conn) {
	shut := func() {
		_ = s.Close()
		_ = other.Close()
	}
	defer context.AfterFunc(ctx, shut)()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(other, s)
		shut()
	})
	_, _ = io.Copy(s, other)
	shut()
	wg.Wait()
}
