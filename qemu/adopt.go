package qemu

import (
	"context"
	"errors"
	"fmt"

	"github.com/qemulet/qemulet/qmp"
)

// ErrGone: the process of an Identity does not exist any more.
var ErrGone = errors.New("qemu: the process is gone")

// AdoptOptions is what Adopt needs beside an Identity: the same that Start was
// given.
type AdoptOptions struct {
	RunDir string
	Log    string
	Cgroup *Cgroup // nil if it had none
}

// GoneError is ErrGone for a machine that ended while nobody watched, with what can
// still be known of that.
type GoneError struct {
	Ending Ending // Time is zero if the machine died without a word
	Err    error
}

// Error says both.
func (e *GoneError) Error() string { return e.Err.Error() + ": " + e.Ending.Detail }

// Unwrap leads to ErrGone.
func (e *GoneError) Unwrap() error { return e.Err }

// Adopt takes over a machine that an earlier process has started and left, by
// Close or by its own death. When the machine's process is gone, the error is a
// *GoneError. The number of another process is never taken for it.
//
// A machine whose monitor does not answer before ctx ends, or within 10 seconds, is
// returned as well: it is not Responsive, and can be killed. One whose guest has
// ended meanwhile is ended, as it would have been then: its Ending has the time
// when the guest did.
func Adopt(ctx context.Context, id Identity, o AdoptOptions) (*Machine, error) {
	proc, err := hostProc.find(id)
	if errors.Is(err, ErrGone) {
		return nil, &GoneError{Ending: endingUnseen(o), Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("qemu: adopt %v: %w", id, err)
	}
	parts := machineParts{id: id, proc: proc, log: o.Log, cgroup: o.Cgroup}
	if o.Cgroup != nil {
		parts.oomKills, _ = o.Cgroup.OOMKills()
	}
	state, err := parts.connect(ctx, o.RunDir)
	if err != nil {
		proc.close()
		return nil, fmt.Errorf("qemu: adopt %v: %w", id, err)
	}
	return watch(parts, state), nil
}

// connect dials the machine's monitor again and asks for its state. A monitor that
// cannot be had stays nil.
func (p *machineParts) connect(ctx context.Context, runDir string) (qmp.RunState, error) {
	path, err := socketPath(runDir, SocketQMP)
	if err != nil {
		return "", err
	}
	p.sockets = []string{path, ConsoleInputPath(runDir), AgentPath(runDir)}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	mon, err := qmp.Dial(ctx, path)
	if err != nil {
		return "", nil
	}
	status, err := mon.QueryStatus(ctx)
	if err != nil {
		mon.Close()
		return "", nil
	}
	p.mon = mon
	return status.Status, nil
}

// endingUnseen is how a machine ended that is gone.
func endingUnseen(o AdoptOptions) Ending {
	return evidence{said: readState(o.Log), words: lastWords(o.Log), oom: outOfMemory(o.Cgroup, 0)}.ending()
}
