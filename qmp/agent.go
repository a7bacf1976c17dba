package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Agent is a connection to the QEMU guest agent, which a guest may run: JSON
// lines over a virtio-serial port (QEMU Guest Agent Protocol Reference). An
// agent has no greeting, no ids and no events, and its channel may hold what
// an earlier client has left, so that each connection begins by synchronising.
//
// Commands of any number of goroutines are sent one after the other. A command
// that was given up breaks the connection: make a new one.
type Agent struct {
	nc   net.Conn
	r    *bufio.Reader
	turn chan struct{} // holds one token: the right to speak
	lost atomic.Bool
}

const (
	// agentDelimiter precedes the answer to guest-sync-delimited. It is in no
	// JSON text, since those are UTF-8.
	agentDelimiter = 0xff
	// maxAgentReply bounds an answer in bytes: output of 16 MiB twice, in
	// base64, and some.
	maxAgentReply = 48 << 20
)

// ErrAgentLost is what all errors are about connections to an agent that have
// ended or have lost their place.
var ErrAgentLost = errors.New("the connection to the guest agent is lost")

// AgentError is an agent's refusal.
type AgentError struct {
	Command string
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *AgentError) Error() string { return fmt.Sprintf("guest agent: %s: %s", e.Command, e.Desc) }

// DialAgent connects to the socket of an agent's port and synchronises, before
// ctx ends. A guest without an agent does not answer.
func DialAgent(ctx context.Context, path string) (*Agent, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("guest agent: %w", err)
	}
	a := &Agent{nc: nc, r: bufio.NewReader(nc), turn: make(chan struct{}, 1)}
	if err := a.sync(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("guest agent does not answer: %w", err)
	}
	a.turn <- struct{}{}
	return a, nil
}

// Close ends the connection. The agent itself goes on.
func (a *Agent) Close() error {
	a.lost.Store(true)
	return a.nc.Close()
}

// Lost tells that no command can be sent any more.
func (a *Agent) Lost() bool { return a.lost.Load() }

// sync finds the beginning of the conversation: what comes before the
// delimiter, and answers to others, are old.
func (a *Agent) sync(ctx context.Context) error {
	defer a.interrupt(ctx)()
	id := time.Now().UnixNano() & (1<<52 - 1) // what all readers of JSON keep
	// The delimiter makes the agent forget half a command of before.
	if _, err := fmt.Fprintf(a.nc, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", id); err != nil {
		return a.cause(ctx, err)
	}
	for {
		if _, err := a.r.ReadSlice(agentDelimiter); errors.Is(err, bufio.ErrBufferFull) {
			continue
		} else if err != nil {
			return a.cause(ctx, err)
		}
		var got int64
		if err := a.reply("guest-sync-delimited", &got); err == nil && got == id {
			return nil
		} else if a.Lost() {
			return a.cause(ctx, err)
		}
	}
}

// Do sends a command and reads its answer into out, which may be nil. If ctx
// ends before that, the connection is lost.
func (a *Agent) Do(ctx context.Context, command string, args, out any) error {
	select {
	case <-a.turn:
	case <-ctx.Done():
		return fmt.Errorf("guest agent: %s: %w", command, ctx.Err())
	}
	defer func() { a.turn <- struct{}{} }()
	if a.Lost() {
		return fmt.Errorf("guest agent: %s: %w", command, ErrAgentLost)
	}
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, args})
	if err != nil {
		return fmt.Errorf("guest agent: %s: %w", command, err)
	}
	defer a.interrupt(ctx)()
	if _, err := a.nc.Write(append(line, '\n')); err != nil {
		a.lost.Store(true)
		return fmt.Errorf("guest agent: %s: %w", command, a.cause(ctx, err))
	}
	if err := a.reply(command, out); err != nil {
		return a.cause(ctx, err)
	}
	return nil
}

// reply reads one answer.
func (a *Agent) reply(command string, out any) error {
	line, err := a.readLine()
	if err != nil {
		a.lost.Store(true)
		return fmt.Errorf("guest agent: %s: %w: %w", command, ErrAgentLost, err)
	}
	var got struct {
		Return json.RawMessage `json:"return"`
		Error  *AgentError     `json:"error"`
	}
	if err := json.Unmarshal(line, &got); err != nil {
		a.lost.Store(true)
		return fmt.Errorf("guest agent: %s: answered what is no JSON: %w: %w", command, ErrAgentLost, err)
	}
	if got.Error != nil {
		got.Error.Command = command
		return got.Error
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(got.Return, out)
}

func (a *Agent) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := a.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil && len(bytes.TrimSpace(line)) == 0:
			line = nil
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxAgentReply:
			return nil, fmt.Errorf("an answer of more than %d bytes", maxAgentReply)
		}
	}
}

// interrupt frees reads and writes when ctx ends, until the function that it
// returns is called.
func (a *Agent) interrupt(ctx context.Context) func() {
	stop := context.AfterFunc(ctx, func() {
		a.lost.Store(true)
		_ = a.nc.SetDeadline(time.Unix(1, 0))
	})
	return func() { stop() }
}

// cause prefers why a conversation was given up to how that showed.
func (a *Agent) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", ErrAgentLost, err)
	}
	return err
}
