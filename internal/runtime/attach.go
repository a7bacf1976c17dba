package runtime

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
)

// Attach connects in and out, of which one may be nil, to the serial console
// until ctx ends or the VM does. A client that does not read is cut off with
// console.ErrSlowClient; it never holds up the guest.
func (r *Runtime) Attach(ctx context.Context, id string, in io.Reader, out io.Writer) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	_, c, _ := v.running()
	if c == nil || c.hub == nil {
		return fmt.Errorf("container %s is %s, only a running one has a console: %w", v.id, v.record().Phase, errdefs.ErrFailedPrecondition)
	}
	return c.hub.Attach(ctx, in, out)
}

// DialPod connects to a TCP port of the guest. The caller closes the connection.
func (r *Runtime) DialPod(ctx context.Context, sandboxID string, port int32) (net.Conn, error) {
	p, err := r.pod(sandboxID)
	if err != nil {
		return nil, err
	}
	rec, n := p.record(), p.network()
	if rec.Phase != store.SandboxReady || n == nil || len(rec.IPs) == 0 {
		return nil, fmt.Errorf("sandbox %s is %s and has no network: %w", p.id, rec.Phase, errdefs.ErrFailedPrecondition)
	}
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("port %d is not between 1 and 65535: %w", port, errdefs.ErrInvalidArgument)
	}
	return n.DialFromNode(ctx, "tcp", uint16(port))
}

// ReopenLog makes the VM's log continue in a new file, after kubelet has
// renamed the old one. On an error the old file is written on.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	_, c, _ := v.running()
	if c == nil {
		return fmt.Errorf("container %s is %s, only a running one writes a log: %w", v.id, v.record().Phase, errdefs.ErrFailedPrecondition)
	}
	if c.log == nil {
		return fmt.Errorf("container %s: its log could not be opened when the daemon started: %w", v.id, errdefs.ErrFailedPrecondition)
	}
	return c.log.Reopen()
}
