package qmp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// request is a command on the wire.
type request struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
	ID        uint64          `json:"id"`
}

// Do sends a command and waits for its reply.
//
// args becomes the command's arguments: nil, or what encodes to a JSON object.
// The reply is decoded into out unless that is nil. files are passed along
// (SCM_RIGHTS) with the first byte of the command; they stay the caller's.
//
// QEMU's refusal is an [*Error]. If ctx ends first, or the time that the kind of
// command is given by default, the error wraps ctx's and the late reply is
// dropped: the command may still take effect. The connection stays usable. If the
// connection ends first, the error wraps [ErrClosed] or [io.ErrUnexpectedEOF].
func (c *Conn) Do(ctx context.Context, command string, args, out any, files ...*os.File) error {
	raw, err := encodeArguments(args)
	if err != nil {
		return commandError(command, err)
	}
	ret, err := c.relay(ctx, command, raw, files...)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(ret, out); err != nil {
		return commandError(command, fmt.Errorf("decode reply: %w", err))
	}
	return nil
}

func encodeArguments(args any) (json.RawMessage, error) {
	if args == nil {
		return nil, nil
	}
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode arguments: %w", err)
	}
	if bytes.Equal(raw, []byte("null")) {
		return nil, nil
	}
	return raw, nil
}

// relay is Do with arguments and result as JSON.
func (c *Conn) relay(ctx context.Context, command string, args json.RawMessage, files ...*os.File) (json.RawMessage, error) {
	limit := patience(command)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no reply within %v: %w", limit, context.DeadlineExceeded))
	defer cancel()
	replies := make(chan reply, 1)
	id, err := c.send(ctx, command, args, replies, files)
	if err != nil {
		return nil, commandError(command, err)
	}
	r, err := c.await(ctx, id, replies)
	if err != nil {
		return nil, commandError(command, err)
	}
	if r.err != nil {
		return nil, &Error{Class: r.err.Class, Desc: r.err.Desc, Command: command}
	}
	return r.ret, nil
}

// await returns the reply to a command that was sent.
func (c *Conn) await(ctx context.Context, id uint64, replies <-chan reply) (reply, error) {
	select {
	case r := <-replies:
		return r, nil
	case <-ctx.Done():
		c.abandon(id)
	case <-c.done:
	}
	// A reply that is there counts, whatever else happened at the same time.
	select {
	case r := <-replies:
		return r, nil
	default:
	}
	if err := c.Err(); err != nil {
		return reply{}, err
	}
	return reply{}, cause(ctx)
}

// cause is why ctx ended; it always wraps ctx.Err().
func cause(ctx context.Context) error {
	why := context.Cause(ctx)
	if errors.Is(why, ctx.Err()) {
		return why
	}
	return fmt.Errorf("%w: %w", ctx.Err(), why)
}

// register gives the next command its id. The sender holds the right to write,
// so ids are in the order of the commands on the wire.
func (c *Conn) register(replies chan<- reply) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	c.pending[c.lastID] = replies
	return c.lastID
}

// abandon leaves a tombstone: the reply is expected, but nobody wants it.
func (c *Conn) abandon(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waiting := c.pending[id]; waiting {
		c.pending[id] = nil
	}
}

// forget is for a command of which nothing was sent.
func (c *Conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// answer gives a reply to the one who waits for it.
func (c *Conn) answer(m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.answered(m)
	if !ok {
		return
	}
	replies := c.pending[id]
	delete(c.pending, id)
	if replies != nil {
		replies <- reply{ret: m.Return, err: m.Error} // has room for one, and is sent one
	}
}

// answered finds the command that a reply belongs to. One without id belongs to
// the oldest, since QEMU answers in order.
func (c *Conn) answered(m message) (uint64, bool) {
	if m.ID != nil {
		id, ok := m.id()
		return id, ok
	}
	var oldest uint64
	for id := range c.pending {
		if oldest == 0 || id < oldest {
			oldest = id
		}
	}
	return oldest, oldest != 0
}
