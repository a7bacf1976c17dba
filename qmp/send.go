package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// send writes one command and returns its id. Nothing is on the wire if it fails,
// or else the rest follows before the next command: giving up in the middle of a
// command does not garble the connection.
func (c *Conn) send(ctx context.Context, command string, args json.RawMessage, replies chan<- reply, files []*os.File) (uint64, error) {
	if err := c.startWriting(ctx); err != nil {
		return 0, err
	}
	defer c.stopWriting()
	release := c.interruptWrites(ctx)
	defer release()

	if err := c.flushUnsent(); err != nil {
		return 0, c.sendError(ctx, err)
	}
	id := c.register(replies)
	line, err := json.Marshal(request{command, args, id})
	if err != nil {
		c.forget(id)
		return 0, err
	}
	line = append(line, '\n')
	n, err := c.write(line, files)
	if err == nil {
		return id, nil
	}
	if n == 0 {
		c.forget(id)
	} else {
		c.abandon(id)
		c.unsent = line[n:]
	}
	return 0, c.sendError(ctx, err)
}

// startWriting takes the right to write.
func (c *Conn) startWriting(ctx context.Context) error {
	if ctx.Err() != nil {
		return cause(ctx)
	}
	select {
	case <-c.done:
		return c.Err()
	default:
	}
	select {
	case <-c.writing:
		return nil
	case <-ctx.Done():
		return cause(ctx)
	case <-c.done:
		return c.Err()
	}
}

func (c *Conn) stopWriting() { c.writing <- struct{}{} }

// interruptWrites makes a blocked write return when ctx ends. The function it
// returns undoes that.
func (c *Conn) interruptWrites(ctx context.Context) (release func()) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.nc.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	return func() {
		if !stop() {
			<-interrupted
			c.nc.SetWriteDeadline(time.Time{})
		}
	}
}

func (c *Conn) flushUnsent() error {
	if len(c.unsent) == 0 {
		return nil
	}
	n, err := c.nc.Write(c.unsent)
	if c.unsent = c.unsent[n:]; len(c.unsent) == 0 {
		c.unsent = nil
	}
	return err
}

func (c *Conn) sendError(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return fmt.Errorf("QEMU does not read: %w", cause(ctx))
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		// The reader closes the socket when it meets the end: the reason is
		// what it found, not that the socket is closed by now.
		<-c.done
		return c.Err()
	}
	return peerGone(err)
}

// write sends a whole command, with files if there are any.
func (c *Conn) write(line []byte, files []*os.File) (int, error) {
	if len(files) == 0 {
		return c.nc.Write(line)
	}
	uc, ok := c.nc.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("files can be passed over a unix socket only, not %T", c.nc)
	}
	n, err := writeWithFiles(uc, line, files, nil)
	if err != nil || n == len(line) {
		return n, err
	}
	rest, err := uc.Write(line[n:])
	return n + rest, err
}

// writeWithFiles makes one sendmsg, in which the files go with the first byte. It
// holds each file's descriptor for that long: asking for it with Fd would put the
// file into blocking mode.
func writeWithFiles(uc *net.UnixConn, line []byte, files []*os.File, fds []int) (n int, err error) {
	if len(files) == 0 {
		n, _, err = uc.WriteMsgUnix(line, syscall.UnixRights(fds...), nil)
		return n, err
	}
	rc, err := files[0].SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("file %s: %w", files[0].Name(), err)
	}
	held := rc.Control(func(fd uintptr) {
		n, err = writeWithFiles(uc, line, files[1:], append(fds, int(fd)))
	})
	if held != nil {
		return 0, fmt.Errorf("file %s: %w", files[0].Name(), held)
	}
	return n, err
}
