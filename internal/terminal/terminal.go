// Package terminal is what a person at a terminal needs who sits at the console of
// a VM: each key goes to the guest, until Ctrl-] is typed.
package terminal

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// detachByte is Ctrl-], as with virsh console and telnet.
const detachByte = 0x1d

// Keyboard reads a person's input for as long as the program runs. Reading
// cannot be interrupted, so it is read in one place, and handed to whoever
// wants it at the time.
type Keyboard struct {
	keys  chan []byte
	start sync.Once
	from  io.Reader
}

// NewKeyboard makes a Keyboard of a terminal, or of what stands for one.
func NewKeyboard(from io.Reader) *Keyboard {
	return &Keyboard{keys: make(chan []byte), from: from}
}

// pump ends with the input, or with the program.
func (k *Keyboard) pump() {
	defer close(k.keys)
	for {
		buf := make([]byte, 256)
		n, err := k.from.Read(buf)
		if n > 0 {
			k.keys <- buf[:n]
		}
		if err != nil && !k.goesOn() {
			return
		}
	}
}

// goesOn tells whether an end of the input was only Ctrl-D on a terminal; one
// that was closed is no terminal any more.
func (k *Keyboard) goesOn() bool {
	f, ok := k.from.(*os.File)
	return ok && IsTerminal(f)
}

// Next returns when something was typed (true), the input or ctx ended.
func (k *Keyboard) Next(ctx context.Context) bool {
	k.start.Do(func() { go k.pump() })
	select {
	case _, ok := <-k.keys:
		return ok
	case <-ctx.Done():
		return false
	}
}

// Reader returns the input from now on, until ctx ends or Ctrl-] is typed,
// which closes detached.
func (k *Keyboard) Reader(ctx context.Context) (in io.Reader, detached <-chan struct{}) {
	k.start.Do(func() { go k.pump() })
	r := &keyReader{ended: ctx.Done(), keys: k.keys, detached: make(chan struct{})}
	return r, r.detached
}

type keyReader struct {
	ended    <-chan struct{}
	keys     <-chan []byte
	rest     []byte
	detached chan struct{}
	done     bool
}

// Read implements io.Reader.
func (r *keyReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 && !r.done {
		select {
		case keys, ok := <-r.keys:
			r.take(keys, ok)
		case <-r.ended:
			r.done = true
		}
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// take accepts what was typed, up to Ctrl-].
func (r *keyReader) take(keys []byte, ok bool) {
	r.rest, r.done = keys, !ok
	if i := bytes.IndexByte(keys, detachByte); i >= 0 {
		r.rest, r.done = keys[:i], true
		close(r.detached)
	}
}

// Raw switches a terminal to raw mode, in which each key goes to the
// guest, Ctrl-C too. The returned function switches back.
func Raw(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, state) }, nil
}

// IsTerminal tells whether f is a terminal.
func IsTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// IsWriterTerminal tells whether w is a terminal.
func IsWriterTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && IsTerminal(f)
}

// Width is the number of columns of the terminal that w is.
func Width(w io.Writer) int {
	const usual = 80
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return usual
}

// Interactive tells whether a person sits at in and out, and this program has
// the terminal to itself: one in the background would be stopped for touching it.
func Interactive(in *os.File, out io.Writer) bool {
	if !IsTerminal(in) || !IsWriterTerminal(out) {
		return false
	}
	// A terminal that is not the controlling one knows no foreground.
	group, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}
