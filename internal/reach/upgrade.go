package reach

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/qemulet/qemulet/internal/api"
)

// Upgrade asks for a path that is a stream of bytes, such as a console, and returns
// the stream. Whoever closes it ends the session. The caller closes it; ctx bounds
// only its opening.
func (d *Daemon) Upgrade(ctx context.Context, path string, query url.Values) (net.Conn, error) {
	ctx, cancel := bounded(ctx, openLimit)
	defer cancel()
	nc, err := d.dial(ctx)
	if err != nil {
		return nil, d.unreachable(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	conn, err := d.upgrade(ctx, nc, path, query)
	if !stop() && err == nil {
		err = d.unreachable(ctx, context.Cause(ctx))
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return conn, nil
}

func (d *Daemon) upgrade(ctx context.Context, nc net.Conn, path string, query url.Values) (net.Conn, error) {
	req, err := http.NewRequest(http.MethodGet, address(path, query), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", api.StreamProtocol)
	if err := req.Write(nc); err != nil {
		return nil, d.unreachable(ctx, err)
	}
	r := bufio.NewReader(nc)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, d.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		err := refusal(path, resp)
		if resp.StatusCode == http.StatusOK {
			err = errors.New(path + ": the daemon has no such stream, it is of another version")
		}
		return nil, err
	}
	return &stream{Conn: nc, r: r}, nil
}

// stream is a connection of which a part may have been read already.
type stream struct {
	net.Conn
	r *bufio.Reader
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) { return s.r.Read(p) }
