package podrun

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// LogOptions choose what is shown of a log.
type LogOptions struct {
	Follow     bool // until the VM ends or ctx does
	Timestamps bool
}

// Logs copies what the pod's VM has printed to out.
func (c *Client) Logs(ctx context.Context, name string, o LogOptions, out io.Writer) error {
	p, err := c.FindVM(ctx, name)
	if err != nil {
		return err
	}
	path, err := c.LogPath(ctx, p.Container.Id)
	if err != nil {
		return err
	}
	if path == "" {
		return fmt.Errorf("pod %q was made without a log", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := &logReader{in: bufio.NewReader(f), out: out, timestamps: o.Timestamps}
	if !o.Follow {
		return r.copy()
	}
	return c.follow(ctx, r, path, p.Container.Id)
}

// follow copies what is appended, until the VM has ended and all is copied.
func (c *Client) follow(ctx context.Context, r *logReader, path, container string) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(path)); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := c.watchEnd(ctx, container, strangersPatience)
	for {
		if err := r.copy(); err != nil {
			return err
		}
		select {
		case <-w.Events:
		case err := <-w.Errors:
			return err
		case <-end.done:
			return errors.Join(end.err, r.copy())
		}
	}
}

// logReader turns lines of the CRI log format ("TIME STREAM TAGS TEXT") back
// into what was printed.
type logReader struct {
	in         *bufio.Reader
	out        io.Writer
	timestamps bool
	line       []byte // read so far of a line that is still being written
	midLine    bool   // the last piece was a partial one
}

// copy writes what is there.
func (r *logReader) copy() error {
	for {
		piece, err := r.in.ReadSlice('\n')
		r.line = append(r.line, piece...)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return err
		}
		if err := r.write(bytes.TrimSuffix(r.line, []byte("\n"))); err != nil {
			return err
		}
		r.line = r.line[:0]
	}
}

func (r *logReader) write(line []byte) error {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) < 4 {
		return nil
	}
	text := fields[3]
	if r.timestamps && !r.midLine {
		text = append(append(bytes.Clone(fields[0]), ' '), text...)
	}
	r.midLine = bytes.HasPrefix(fields[2], []byte("P"))
	if !r.midLine {
		text = append(bytes.Clone(text), '\n')
	}
	_, err := r.out.Write(text)
	return err
}
