package podrun

import (
	"context"
	"fmt"
	"io"
	"os"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Session connects a person to the console of a VM that somebody else runs:
// leaving it, in any way, leaves the VM alone.
func (c *Client) Session(ctx context.Context, container string, in *os.File, out, info io.Writer) error {
	resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: container})
	if err != nil {
		return rpcError("asking for the VM", err)
	}
	name := resp.GetStatus().GetLabels()[labelPodName]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var keys io.Reader
	if IsTerminal(in) {
		restore, err := rawTerminal(in)
		if err != nil {
			return err
		}
		defer restore()
		var detached <-chan struct{}
		keys, detached = newKeyboard(in).reader(ctx)
		fmt.Fprintf(info, "this is the console of %s; Ctrl-] leaves it\r\n", name)
		go func() {
			select {
			case <-detached:
				fmt.Fprintf(info, "\r\nleft the console of %s, which runs on\r\n", name)
				cancel()
			case <-ctx.Done():
			}
		}()
	} else if in != nil {
		keys = in
	}
	return c.Console(ctx, container, keys, out)
}
