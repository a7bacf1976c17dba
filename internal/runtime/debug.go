package runtime

import (
	"errors"
	"log/slog"
	"time"

	"github.com/qemulet/qemulet/qmp"
)

// auditDebug says in the daemon's log who sent which command to a VM's monitor.
// Arguments are left out: some carry secrets.
func (r *Runtime) auditDebug(v *vm, rec qmp.MuxRecord) {
	outcome, level := debugOutcome(rec), slog.LevelInfo
	if rec.Refused {
		level = slog.LevelWarn
	}
	r.vmLog(v).Log(r.background, level, "debug command",
		"client", rec.Client, "clientPID", rec.PID, "clientUID", rec.UID,
		"command", shortened(rec.Command), "outcome", outcome, "took", rec.Duration.Round(time.Microsecond))
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
