package podrun

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
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

	conn *grpc.ClientConn
	api  *http.Client
}

// Connect connects to the daemon that listens on these two sockets and waits,
// while ctx allows, until it answers. The caller closes the Client.
func Connect(ctx context.Context, criSocket, apiSocket string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+criSocket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, err
	}
	c := &Client{
		RuntimeServiceClient: runtimeapi.NewRuntimeServiceClient(conn),
		Images:               runtimeapi.NewImageServiceClient(conn),
		conn:                 conn,
		api:                  &http.Client{Transport: unixTransport(apiSocket)},
	}
	if _, err := c.Version(ctx, &runtimeapi.VersionRequest{}); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("no daemon answers on %s: %w", criSocket, err)
	}
	return c, nil
}

// Listening tells whether somebody listens on the socket.
func Listening(socket string) bool {
	nc, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	_ = nc.Close()
	return true
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

// getJSON asks the api socket.
func (c *Client) getJSON(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://daemon"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.api.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
