package podrun

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage is kubelet's own limit for an answer, in bytes.
const maxMessage = 16 << 20

// Client speaks to a daemon: CRI, and the api socket. Its methods may be
// called concurrently.
type Client struct {
	runtimeapi.RuntimeServiceClient
	Images runtimeapi.ImageServiceClient

	conn   *grpc.ClientConn
	api    *http.Client
	socket string // CRI's
}

// Connect connects to the daemon that listens on these two sockets and waits,
// while ctx allows, until it answers. The caller closes the Client.
func Connect(ctx context.Context, criSocket, apiSocket string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+criSocket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(reconnect()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, err
	}
	c := &Client{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(conn),
		Images:               runtimeapi.NewImageServiceClient(conn),
		conn:                 conn,
		socket:               criSocket,
		api:                  &http.Client{Transport: unixTransport(apiSocket)},
	}
	if _, err := c.Version(ctx, &runtimeapi.VersionRequest{}); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("no daemon answers on %s: %w", criSocket, err)
	}
	return c, nil
}

// reconnect tries again soon: a daemon that was restarted is back in a moment.
func reconnect() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}
}

// answers tells whether the daemon can be asked.
func (c *Client) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := c.Version(ctx, &runtimeapi.VersionRequest{})
	return err == nil
}

// Settings are the daemon's, by name; nil when it does not tell.
func (c *Client) Settings(ctx context.Context) map[string]string {
	resp, err := c.Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return nil
	}
	var settings map[string]string
	_ = json.Unmarshal([]byte(resp.GetInfo()["config"]), &settings)
	return settings
}

// Listening tells whether somebody listens on the socket. The error is that of
// a socket which may not be used.
func Listening(socket string) (bool, error) {
	nc, err := net.DialTimeout("unix", socket, time.Second)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return false, fmt.Errorf("the daemon's socket %s: only root may use it: %w", socket, err)
	case err != nil:
		return false, nil
	}
	return true, nc.Close()
}

// DaemonPID is the process that listens on the socket.
func DaemonPID(socket string) (int, error) {
	nc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	raw, err := nc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(controlErr, err); err != nil {
		return 0, err
	}
	return int(peer.Pid), nil
}

// Close ends the connections.
func (c *Client) Close() error {
	c.api.CloseIdleConnections()
	return c.conn.Close()
}

// unixTransport reaches any URL through one unix socket.
func unixTransport(socket string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
}

// Call asks the daemon's own interface on the api socket and decodes the JSON of
// its answer. A refusal is an error in the daemon's words.
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, into any) error {
	u := url.URL{Scheme: "http", Host: "daemon", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		words, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return errors.New(trimClass(cmp.Or(strings.TrimSpace(string(words)), path+": "+resp.Status)))
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
