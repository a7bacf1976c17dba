package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

// ExecResult is how a program in a guest ended: its exit code, or as shells
// have it, 128 and the number of the signal that ended it; and what it printed.
// Truncated tells that the guest agent has not kept all of that.
type ExecResult struct {
	ExitCode       int32
	Stdout, Stderr []byte
	Truncated      bool
}

// agentLimit bounds how long a guest agent may take to answer for the first time.
const agentLimit = 5 * time.Second

// bootLimit is how long after its start a guest may still be booting.
const bootLimit = 2 * time.Minute

// Exec runs a program in the guest, by its guest agent, and waits for its end;
// when ctx ends before that, the program is killed. input is its standard
// input, nil for none. Without an agent the error is errdefs.ErrUnavailable: a
// guest that boots may have one soon, and a probe that cannot be made has not
// failed.
func (r *Runtime) Exec(ctx context.Context, id string, command []string, input []byte) (ExecResult, error) {
	v, err := r.vm(id)
	if err != nil {
		return ExecResult{}, err
	}
	if len(command) == 0 {
		return ExecResult{}, fmt.Errorf("container %s: no command is given: %w", v.id, errdefs.ErrInvalidArgument)
	}
	agent, err := r.agent(ctx, v)
	if err != nil {
		return ExecResult{}, fmt.Errorf("container %s: %w", v.id, err)
	}
	out, err := agent.Exec(ctx, qmp.AgentCommand{Path: command[0], Args: command[1:], Input: input})
	if err != nil {
		return ExecResult{}, fmt.Errorf("container %s: command %q: %w", v.id, command[0], execError(err))
	}
	if out.Signal != 0 {
		out.ExitCode = 128 + out.Signal
	}
	return ExecResult{ExitCode: int32(out.ExitCode), Stdout: out.Stdout, Stderr: out.Stderr, Truncated: out.Truncated}, nil
}

// AwaitAgent waits until a guest agent runs in a VM that was started lately, or
// until ctx ends. errdefs.ErrUnavailable when there is still none, and at once
// when the guest has had time enough to boot.
func (r *Runtime) AwaitAgent(ctx context.Context, id string) error {
	v, err := r.vm(id)
	if err != nil {
		return err
	}
	if err := r.awaitAgent(ctx, v); err != nil {
		return fmt.Errorf("container %s: %w", v.id, err)
	}
	return nil
}

func (r *Runtime) awaitAgent(ctx context.Context, v *vm) error {
	m, _, _ := v.running()
	if m == nil || m.QMP() == nil {
		return notRunning(v)
	}
	changed := m.QMP().Subscribe(4, func(e goqemu.Event) bool { return e.Event == "VSERPORT_CHANGE" })
	defer changed.Close()
	ctx, cancel := context.WithDeadline(ctx, v.record().Started.Add(bootLimit))
	defer cancel()
	for {
		err := lookForAgent(ctx, v, m.QMP())
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case _, connected := <-changed.C:
			if !connected {
				return err
			}
		case <-ctx.Done():
		}
	}
}

// lookForAgent is checkAgent, also after ctx has ended.
func lookForAgent(ctx context.Context, v *vm, monitor *qmp.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentLimit)
	defer cancel()
	return checkAgent(ctx, v, monitor)
}

func notRunning(v *vm) error {
	return fmt.Errorf("is %s, programs run in a running guest only: %w", v.record().Phase, errdefs.ErrFailedPrecondition)
}

// execError sorts what can go wrong beside the program itself.
func execError(err error) error {
	var refused *qmp.AgentError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, qmp.ErrAgentLost), errors.Is(err, qmp.ErrAgentBusy):
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	return err
}

// agent is the connection to a VM's guest agent, made when it is first needed.
func (r *Runtime) agent(ctx context.Context, v *vm) (*qmp.Agent, error) {
	// That the time is over before anything was run is no failure of a program.
	if err := v.agentLock.acquire(ctx, "guest agent"); err != nil {
		return nil, fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
	}
	defer v.agentLock.release()
	m, _, _ := v.running()
	if m == nil || m.QMP() == nil {
		return nil, notRunning(v)
	}
	if a := v.guestAgent(); a != nil {
		return a, nil
	}
	limited, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	if err := checkAgent(limited, v, m.QMP()); err != nil {
		return nil, err
	}
	a, err := qmp.DialAgent(limited, qemu.AgentPath(r.runDir(v.id)))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
	}
	if !v.setAgent(m, a) {
		_ = a.Close()
		return nil, fmt.Errorf("the VM has ended: %w", errdefs.ErrFailedPrecondition)
	}
	return a, nil
}

// checkAgent saves the time of waiting for an agent that is not there.
func checkAgent(ctx context.Context, v *vm, monitor *qmp.Conn) error {
	all, err := monitor.QueryCharDevices(ctx)
	if err != nil {
		return fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
	}
	if slices.ContainsFunc(all, func(d qmp.CharDevice) bool { return d.Label == qemu.AgentChardev && d.FrontendOpen }) {
		return nil
	}
	return noAgent(time.Since(v.record().Started))
}

// noAgent tells of a guest without an agent, age after its start. A probe's
// failures are one event as long as their text stays the same.
func noAgent(age time.Duration) error {
	booting := ""
	if age < bootLimit {
		booting = fmt.Sprintf("; the guest was started less than %v ago and may still be booting", bootLimit)
	}
	return fmt.Errorf("no guest agent runs in the guest: install and start qemu-guest-agent there; without it "+
		"use attach for the console, port-forward or ssh, and httpGet, tcpSocket or grpc for probes%s: %w", booting, errdefs.ErrUnavailable)
}
