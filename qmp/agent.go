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
	"os"
	"slices"
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
	// patience is how long a command that has no other bound may stand still.
	patience time.Duration
	// patient is true while there is such a command. Who has the turn owns it.
	patient bool
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

// ErrAgentBusy is the error about a command for which there was no time before
// others were answered. The agent has not seen it.
var ErrAgentBusy = errors.New("the guest agent was busy with other commands all the time")

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
	a := &Agent{nc: nc, turn: make(chan struct{}, 1), patience: answerTime}
	a.r = bufio.NewReader(heard{a})
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
	defer a.pass()
	return a.converse(ctx, command, args, out)
}

// do is Do for a command that must be known to have been sent or not: what was
// sent is only given up when the conversation stands still. ErrAgentBusy tells
// that ctx has ended before the command could be sent.
func (a *Agent) do(ctx context.Context, command string, args, out any) error {
	select {
	case <-a.turn:
	case <-ctx.Done():
		return fmt.Errorf("guest agent: %s: %w", command, ErrAgentBusy)
	}
	defer a.pass()
	a.patient = true
	defer func() {
		a.patient = false
		_ = a.nc.SetDeadline(time.Time{})
	}()
	err := a.converse(context.WithoutCancel(ctx), command, args, out)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("guest agent: %s: nothing was heard for %v: %w", command, a.patience, context.DeadlineExceeded)
	}
	return err
}

// pass lets the next one speak.
func (a *Agent) pass() { a.turn <- struct{}{} }

// converse sends a command and reads its answer. The caller has the turn.
func (a *Agent) converse(ctx context.Context, command string, args, out any) error {
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
	if err := a.write(append(line, '\n')); err != nil {
		a.lost.Store(true)
		return fmt.Errorf("guest agent: %s: %w", command, a.cause(ctx, err))
	}
	if err := a.reply(command, out); err != nil {
		return a.cause(ctx, err)
	}
	return nil
}

// moves tells that the conversation does not stand still.
func (a *Agent) moves() {
	if a.patient {
		_ = a.nc.SetDeadline(time.Now().Add(a.patience))
	}
}

// heard reads what the agent says.
type heard struct{ a *Agent }

func (h heard) Read(p []byte) (int, error) {
	h.a.moves()
	return h.a.nc.Read(p)
}

// writeSize is how much a guest, also a slow one, takes within the patience.
const writeSize = 64 << 10

func (a *Agent) write(line []byte) error {
	for part := range slices.Chunk(line, writeSize) {
		a.moves()
		if _, err := a.nc.Write(part); err != nil {
			return err
		}
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
