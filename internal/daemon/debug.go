package daemon

import (
	"context"
	"io"
	"net"

	"github.com/qemulet/qemulet/internal/runtime"
)

// debug is what people who debug VMs have of them.
type debug struct{ machines }

// Monitor implements api.Debug.
func (d debug) Monitor(ctx context.Context, namespace, name string, writes bool) (func(context.Context, net.Conn), error) {
	id, err := d.idOf(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	may := runtime.DebugRead
	if writes {
		may = runtime.DebugAll
	}
	return d.Runtime.Monitor(id, may)
}

// VNC implements api.Debug.
func (d debug) VNC(ctx context.Context, namespace, name string) (net.Conn, error) {
	id, err := d.idOf(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return d.Runtime.VNC(ctx, id)
}

// Screenshot implements api.Debug.
func (d debug) Screenshot(ctx context.Context, namespace, name string, w io.Writer) error {
	id, err := d.idOf(ctx, namespace, name)
	if err != nil {
		return err
	}
	return d.Runtime.Screenshot(ctx, id, w)
}

// idOf finds the container of a pod's VM.
func (d debug) idOf(ctx context.Context, namespace, name string) (string, error) {
	look, err := d.findVM(ctx, namespace, name)
	if err != nil {
		return "", err
	}
	return look.Container.ID, nil
}
