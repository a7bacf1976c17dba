package podrun

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// detachByte is Ctrl-], as with virsh console and telnet.
const detachByte = 0x1d

// keyboard reads a person's input for as long as the program runs. Reading
// cannot be interrupted, so it is read in one place, and handed to whoever
// wants it at the time.
type keyboard struct {
	keys  chan []byte
	start sync.Once
	from  io.Reader
}

func newKeyboard(from io.Reader) *keyboard {
	return &keyboard{keys: make(chan []byte), from: from}
}

// pump ends with the input, or with the program.
func (k *keyboard) pump() {
	defer close(k.keys)
	for {
		buf := make([]byte, 256)
		n, err := k.from.Read(buf)
		if n > 0 {
			k.keys <- buf[:n]
		}
		if err != nil {
			return
		}
	}
}

// reader returns the input from now on, until ctx ends or Ctrl-] is typed,
// which closes detached.
func (k *keyboard) reader(ctx context.Context) (in io.Reader, detached <-chan struct{}) {
	k.start.Do(func() { go k.pump() })
	r := &keyReader{ctx: ctx, keys: k.keys, detached: make(chan struct{})}
	return r, r.detached
}

type keyReader struct {
	ctx      context.Context
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
			r.rest, r.done = keys, !ok
		case <-r.ctx.Done():
			r.done = true
		}
		if i := bytes.IndexByte(r.rest, detachByte); i >= 0 {
			r.rest, r.done = r.rest[:i], true
			close(r.detached)
		}
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// rawTerminal switches a terminal to raw mode, in which each key goes to the
// guest, Ctrl-C too. The returned function switches back. For anything but a
// terminal both do nothing.
func rawTerminal(f *os.File) (restore func(), err error) {
	fd := int(f.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, state) }, nil
}

// IsTerminal tells whether a person sits at f.
func IsTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }
