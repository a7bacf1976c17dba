package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/qmp"
)

// Monitor returns what serves QMP to one client, held to what may allows, until the
// client leaves, the context ends or the VM does. It takes ownership of the
// connection.
func (r *Runtime) Monitor(id string, may DebugCommands) (func(context.Context, net.Conn), error) {
	v, err := r.vm(id)
	if err != nil {
		return nil, err
	}
	_, c, _ := v.running()
	if c == nil || c.mux == nil {
		return nil, fmt.Errorf("container %s is %s: its QEMU runs no more, or does not answer: %w", v.id, v.record().Phase, errdefs.ErrFailedPrecondition)
	}
	return func(ctx context.Context, nc net.Conn) { c.mux.ServeConn(ctx, nc, may.rule()) }, nil
}

// auditDebug says in the daemon's log who sent which command to a VM's monitor.
// Arguments are left out, but for the human monitor's verb: some carry secrets.
func (r *Runtime) auditDebug(v *vm, rec qmp.MuxRecord) {
	outcome, level := debugOutcome(rec), slog.LevelInfo
	if rec.Refused {
		level = slog.LevelWarn
	}
	r.vmLog(v).Log(r.background, level, "debug command",
		"client", rec.Client, "clientPID", rec.PID, "clientUID", rec.UID,
		"command", shortened(strings.TrimSpace(rec.Command+" "+rec.Verb)), "outcome", outcome, "took", rec.Duration.Round(time.Microsecond))
}

// debugOutcome is one word: what QEMU itself says of a command may repeat its
// arguments.
func debugOutcome(rec qmp.MuxRecord) string {
	var refused *qmp.Error
	switch {
	case rec.Refused:
		return "refused"
	case rec.Err == nil:
		return "allowed"
	case errors.As(rec.Err, &refused):
		return "allowed, failed"
	}
	return "allowed, no answer"
}
