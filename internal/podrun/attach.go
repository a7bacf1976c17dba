package podrun

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Console connects in and out to the VM's serial console until the VM ends,
// ctx ends or, with nil, in ends. It goes through the daemon's unix socket, so
// it needs no network to be shared with the daemon.
func (c *Client) Console(ctx context.Context, id string, in io.Reader, out io.Writer) error {
	resp, err := c.Attach(ctx, &runtimeapi.AttachRequest{ContainerId: id, Stdin: in != nil, Stdout: true})
	if err != nil {
		return err
	}
	u, err := url.Parse(resp.GetUrl())
	if err != nil {
		return err
	}
	exec, err := c.executor(u)
	if err != nil {
		return err
	}
	err = exec.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Client) executor(u *url.URL) (remotecommand.Executor, error) {
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{UpgradeTransport: c.api.Transport})
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForTransports(upgrader, upgrader, http.MethodPost, u)
}
