package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// stopGrace is how long a detaching client is waited for whose write is
// running, so that normally out is not used any more when Attach returns.
const stopGrace = 200 * time.Millisecond

// Attach connects a client: what the guest writes from now on goes to out,
// what in delivers is typed into the guest. Either may be nil. It returns
//
//   - nil when the console has ended or the Hub was closed, after out got all
//     that was read for it; and when in has ended and out is nil (the end of in
//     alone does not end an attachment that has an out),
//   - ctx's error when ctx ends,
//   - ErrSlowClient when the client takes output too slowly,
//   - the error of in or out when one fails.
//
// Attach never waits for in or out: no Read or Write begins after it has
// returned, but one that hangs may still be running then (a terminal returns
// from Read at the next key, which is dropped). It ends with that call.
func (h *Hub) Attach(ctx context.Context, in io.Reader, out io.Writer) error {
	c := newClient(h.opts.ClientBytes)
	if out != nil && !h.join(c) {
		return nil
	}
	inner, cancel := context.WithCancel(ctx)
	typed := h.startInput(inner, in)
	written := c.startOutput(out)
	defer func() {
		cancel()
		h.leave(c)
		c.await(written)
	}()
	return h.attached(ctx, c, typed, written, out == nil)
}

// attached waits for the first reason to end.
func (h *Hub) attached(ctx context.Context, c *client, typed, written <-chan error, inputOnly bool) error {
	done := h.Done()
	var late <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.slow:
			return ErrSlowClient
		case err := <-written:
			return wrap("write console output to client", err)
		case err := <-typed:
			if err != nil || inputOnly {
				return wrap("read console input of client", err)
			}
			typed = nil
		case <-done:
			if inputOnly {
				return nil
			}
			done, late = nil, time.After(h.opts.DrainTimeout)
		case <-late:
			return ErrSlowClient
		}
	}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// startOutput feeds out in a goroutine. The result is sent once; a client
// without out never has one.
func (c *client) startOutput(out io.Writer) chan error {
	if out == nil {
		return nil
	}
	written := make(chan error, 1)
	go func() {
		defer close(written)
		written <- c.writeTo(out)
	}()
	return written
}

// await stops the output and waits a moment for a write that is running.
func (c *client) await(written <-chan error) {
	c.stop()
	if written == nil {
		return
	}
	deadline := time.After(stopGrace)
	for {
		select {
		case _, more := <-written:
			if !more {
				return
			}
		case <-deadline:
			return
		}
	}
}

// startInput types what in delivers, in a goroutine. The result is sent once,
// nil at the end of in; a client without in never has one.
func (h *Hub) startInput(ctx context.Context, in io.Reader) <-chan error {
	if in == nil {
		return nil
	}
	typed := make(chan error, 1)
	go func() { typed <- h.typeFrom(ctx, in) }()
	return typed
}

func (h *Hub) typeFrom(ctx context.Context, in io.Reader) error {
	buf := make([]byte, 1<<10)
	for ctx.Err() == nil {
		n, err := in.Read(buf)
		if ctx.Err() != nil {
			return nil // nobody waits for this any more
		}
		if !h.typeBytes(ctx, buf[:n]) {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
