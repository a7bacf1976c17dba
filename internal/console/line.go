package console

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// keepBytes behind the logged part of the output are not freed, so that a
	// Line that is a little late still finds them.
	keepBytes = 256 << 10
	// lateBytes is how far behind a Line may be; further back it goes on near
	// the end, and says what it left out.
	lateBytes = keepBytes / 2
)

// Line is a VM's serial line as QEMU's `file` character device has it: what
// the guest prints is read from the file that QEMU appends it to, and what is
// typed goes through a FIFO. No reader can hold the guest up, and there is one
// truth for the log and for people. Read is for one goroutine, which goes on
// until it fails, for then the files are closed; the other
// methods may be called concurrently.
type Line struct {
	out     *os.File
	in      *os.File
	offset  int64
	wake    chan struct{}
	unwatch func()

	once    sync.Once
	closing chan struct{}
}

// OpenLine opens the file QEMU prints to, at its end, and the FIFO it reads
// from. The caller closes the Line.
func OpenLine(output, input string, w *Watcher) (*Line, error) {
	l := &Line{wake: make(chan struct{}, 1), closing: make(chan struct{})}
	if err := l.open(output, input, w); err != nil {
		l.release()
		return nil, fmt.Errorf("serial line of the VM: %w", err)
	}
	return l, nil
}

func (l *Line) open(output, input string, w *Watcher) (err error) {
	if l.out, err = os.Open(output); err != nil {
		return err
	}
	// ENXIO: QEMU, which keeps both ends open, is gone.
	if l.in, err = os.OpenFile(input, os.O_WRONLY|syscall.O_NONBLOCK, 0); err != nil {
		return err
	}
	if l.offset, err = l.out.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	l.unwatch, err = w.add(l.out, l.wake)
	return err
}

// Read returns what the guest has printed since, and waits for it. After Close
// it returns the rest and then io.EOF.
func (l *Line) Read(p []byte) (int, error) {
	for {
		closing := l.isClosing()
		n, err := l.next(p)
		switch {
		case n > 0:
			return n, nil
		case err != nil || closing:
			l.release()
			return 0, cmp.Or(err, io.EOF)
		}
		select {
		case <-l.wake:
		case <-l.closing:
		}
	}
}

func (l *Line) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// next reads what is there, possibly nothing.
func (l *Line) next(p []byte) (int, error) {
	n, err := l.out.ReadAt(p, l.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	// What was read may have been freed meanwhile, and then is zeros.
	if late, err := l.late(); late > lateBytes || err != nil {
		return l.skip(p, late), err
	}
	l.offset += int64(n)
	return n, nil
}

// late is how much of the output is not yet read, in bytes.
func (l *Line) late() (int64, error) {
	st, err := l.out.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size() - l.offset, nil
}

func (l *Line) skip(p []byte, late int64) int {
	left := late - int64(len(p))
	l.offset += left
	return copy(p, fmt.Sprintf("\r\n[qemulet: %d bytes left out]\r\n", left))
}

// Write types. It waits while the guest does not read, until the deadline.
func (l *Line) Write(p []byte) (int, error) { return l.in.Write(p) }

// SetWriteDeadline bounds Write, also one that waits.
func (l *Line) SetWriteDeadline(t time.Time) error { return l.in.SetWriteDeadline(t) }

// Close says that nothing more will be printed or typed. It may be called more
// than once; the files are closed when Read has come to the end.
func (l *Line) Close() error {
	l.once.Do(func() { close(l.closing) })
	return nil
}

// release closes the files. Nothing else may be in progress.
func (l *Line) release() {
	if l.unwatch != nil {
		l.unwatch()
	}
	for _, f := range []*os.File{l.out, l.in} {
		if f != nil {
			_ = f.Close()
		}
	}
}
