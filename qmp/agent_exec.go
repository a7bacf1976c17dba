package qmp

import (
	"context"
	"strconv"
	"time"
)

// AgentCommand is a program to run in a guest. No shell reads it.
type AgentCommand struct {
	Path string
	Args []string // without the program's own name
	Env  []string // NAME=value, in addition to the agent's own
	// Input is the standard input, nil for none.
	Input []byte
}

// AgentOutcome is how a program in the guest ended.
type AgentOutcome struct {
	// ExitCode counts when Signal is 0.
	ExitCode int
	Signal   int
	// Stdout and Stderr are what it printed; what exceeds the agent's bound, 16
	// MiB each, is cut off, which Truncated tells.
	Stdout, Stderr []byte
	Truncated      bool
}

type guestExec struct {
	Path    string   `json:"path"`
	Arg     []string `json:"arg,omitempty"`
	Env     []string `json:"env,omitempty"`
	Input   []byte   `json:"input-data,omitempty"` // base64 in JSON, as the agent wants it
	Capture bool     `json:"capture-output"`
}

type guestExecStatus struct {
	Exited   bool   `json:"exited"`
	ExitCode int    `json:"exitcode"`
	Signal   int    `json:"signal"`
	Out      []byte `json:"out-data"`
	Err      []byte `json:"err-data"`
	OutCut   bool   `json:"out-truncated"`
	ErrCut   bool   `json:"err-truncated"`
}

// How often an agent is asked whether a program has ended: it tells nobody.
const (
	firstAsked = 5 * time.Millisecond
	lastAsked  = 500 * time.Millisecond
)

// Exec runs a program in the guest and waits for its end (guest-exec,
// guest-exec-status). If ctx ends before that, the program is killed, as far as
// the guest has a kill, and ctx's error is returned.
func (a *Agent) Exec(ctx context.Context, c AgentCommand) (AgentOutcome, error) {
	var started struct {
		PID int `json:"pid"`
	}
	err := a.do(ctx, "guest-exec", guestExec{Path: c.Path, Arg: c.Args, Env: c.Env, Input: c.Input, Capture: true}, &started)
	if err != nil {
		return AgentOutcome{}, err
	}
	going := context.WithoutCancel(ctx) // the program is
	for pause := firstAsked; ; pause = min(pause*2, lastAsked) {
		var st guestExecStatus
		if err := a.do(going, "guest-exec-status", map[string]int{"pid": started.PID}, &st); err != nil {
			return AgentOutcome{}, err
		}
		if st.Exited {
			return AgentOutcome{ExitCode: st.ExitCode, Signal: st.Signal, Stdout: st.Out, Stderr: st.Err, Truncated: st.OutCut || st.ErrCut}, nil
		}
		select {
		case <-ctx.Done():
			return AgentOutcome{}, a.kill(going, started.PID, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// answerTime is how long an agent may be silent that has something to answer.
const answerTime = 10 * time.Second

// kill ends a program that nobody waits for any more, and returns why.
func (a *Agent) kill(ctx context.Context, pid int, why error) error {
	_ = a.do(ctx, "guest-exec", guestExec{Path: "kill", Arg: []string{"-KILL", strconv.Itoa(pid)}}, nil)
	return why
}
