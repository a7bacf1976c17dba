package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// qemuSide is what QEMU holds of a Line: the output's writing end and both
// ends of the FIFO.
type qemuSide struct {
	output, input string
	out, in       *os.File
}

func newQEMUSide(t *testing.T) *qemuSide {
	t.Helper()
	dir := t.TempDir()
	q := &qemuSide{output: filepath.Join(dir, "console.log"), input: filepath.Join(dir, "console.in")}
	if err := unix.Mkfifo(q.input, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if q.in, err = os.OpenFile(q.input, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if q.out, err = os.OpenFile(q.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.in.Close(); q.out.Close() })
	return q
}

func (q *qemuSide) print(t *testing.T, text string) {
	t.Helper()
	if _, err := q.out.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func (q *qemuSide) line(t *testing.T) *Line {
	t.Helper()
	w := newWatcher(t)
	l, err := OpenLine(q.output, q.input, w)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newWatcher(t *testing.T) *Watcher {
	t.Helper()
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestLineReadsWhatIsPrintedFromNowOn(t *testing.T) {
	q := newQEMUSide(t)
	q.print(t, "before")
	l := q.line(t)
	go func() {
		for _, word := range []string{"one ", "two ", "three"} {
			_, _ = q.out.WriteString(word)
			time.Sleep(time.Millisecond)
		}
		l.Close()
	}()
	got, err := io.ReadAll(l)
	if string(got) != "one two three" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := l.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
}

func TestLineTypes(t *testing.T) {
	q := newQEMUSide(t)
	l := q.line(t)
	defer io.Copy(io.Discard, l)
	defer l.Close()
	if _, err := l.Write([]byte("ls\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 8)
	if n, err := q.in.Read(buf); string(buf[:n]) != "ls\n" || err != nil {
		t.Errorf("the guest got %q, %v", buf[:n], err)
	}
	// A guest that does not read fills the FIFO, and then the deadline counts.
	if err := l.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write to a guest that does not read: %v", err)
	}
}

// Typing goes on after another daemon had the line, as long as QEMU lives.
func TestLineIsOpenedAgain(t *testing.T) {
	q := newQEMUSide(t)
	for range 2 {
		l := q.line(t)
		if _, err := l.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, err := io.ReadAll(l); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := q.in.Read(make([]byte, 8)); n != 2 || err != nil {
		t.Errorf("the guest got %d bytes, %v", n, err)
	}
	q.in.Close()
	if _, err := OpenLine(q.output, q.input, newWatcher(t)); !errors.Is(err, unix.ENXIO) {
		t.Errorf("without QEMU: %v", err)
	}
}

// A Line that is late leaves output out, and says so; it never shows what was
// freed behind it.
func TestLateLineSkips(t *testing.T) {
	q := newQEMUSide(t)
	l := q.line(t)
	q.print(t, strings.Repeat("x", 10<<20))
	q.print(t, "end")
	if err := unix.Fallocate(int(q.out.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 9<<20); err != nil {
		t.Fatal(err)
	}
	l.Close()
	got, err := io.ReadAll(l)
	if err != nil || !bytes.Contains(got, []byte("bytes left out]")) || !bytes.HasSuffix(got, []byte("end")) || bytes.IndexByte(got, 0) >= 0 {
		t.Errorf("read %d bytes, %v: %.80q", len(got), err, got)
	}
}
