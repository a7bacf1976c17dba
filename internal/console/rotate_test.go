package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func (f *fixture) rotate(l *Log, n int) {
	f.t.Helper()
	must(f.t, os.Rename(f.options.Path, fmt.Sprintf("%s.%04d", f.options.Path, n)))
	must(f.t, l.Reopen())
}

func TestRotationUnderLoad(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.run(l)
	written := make(chan string)
	go func() {
		var all strings.Builder
		for i := range 50000 {
			text := fmt.Sprintf("line %d of many\r\n", i)
			all.WriteString(text)
			_, _ = f.guest.WriteString(text)
		}
		written <- all.String()
	}()
	rotations := 0
	var guest string
	for guest == "" {
		select {
		case guest = <-written:
		default:
			f.rotate(l, rotations)
			rotations++
		}
	}
	must(t, l.Finish(context.Background()))
	equal(t, joined(f.logged()) == asRead(guest), true)
	t.Logf("%d rotations", rotations)
}

func TestRenamedFileIsWrittenUntilReopen(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.says("one\n")
	f.drain(l)
	must(t, os.Rename(f.options.Path, f.options.Path+".1"))
	f.says("two\n")
	f.drain(l)
	if _, err := os.Stat(f.options.Path); !os.IsNotExist(err) {
		t.Fatalf("a new file appeared: %v", err)
	}
	must(t, l.Reopen())
	must(t, l.Reopen()) // without a rename it goes on in the same
	f.says("three\n")
	f.drain(l)
	equal(t, short(parse(t, read(t, f.options.Path+".1"))), "F one\nF two\n")
	equal(t, short(parse(t, read(t, f.options.Path))), "F three\n")
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func TestFailedReopenLeavesNothing(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	must(t, os.Rename(f.options.Path, f.options.Path+".1"))

	must(t, l.positions.f.Close())
	if err := l.Reopen(); err == nil {
		t.Fatal("no error though the position could not be written")
	}
	if _, err := os.Stat(f.options.Path); !os.IsNotExist(err) {
		t.Fatalf("the new file was left behind: %v", err)
	}
	p, err := openPositions(positionPath(f.options.Source))
	must(t, err)
	l.positions.f = p.f

	must(t, os.Mkdir(f.options.Path, 0o700))
	if err := l.Reopen(); err == nil || !strings.Contains(err.Error(), f.options.Path) {
		t.Fatalf("got %v", err)
	}
	must(t, os.Remove(f.options.Path))
	f.says("one\n") // still goes into the old one
	f.drain(l)
	equal(t, short(parse(t, read(t, f.options.Path+".1"))), "F one\n")
}

// When kubelet's rename back meets a daemon that starts, the log would go on in
// a file that has no name.
func TestRemovedLogIsMadeAgain(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.says("one\n")
	f.drain(l)
	must(t, os.Remove(f.options.Path))
	f.says("two\n")
	f.drain(l)
	equal(t, short(f.logged()), "F two\n")
}

func TestRemovedLogDirectory(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(f.dir, "pod")
	must(t, os.Mkdir(dir, 0o700))
	f.options.Path = filepath.Join(dir, "0.log")
	l := f.open()
	must(t, os.RemoveAll(dir))
	f.says("one\n")
	must(t, l.Finish(context.Background()))
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}

// A full disk stops the log, not its order: all is there once there is room.
func TestFullDisk(t *testing.T) {
	f := newFixture(t)
	disk := filepath.Join(f.dir, "disk")
	must(t, os.Mkdir(disk, 0o700))
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("this test mounts a tmpfs and needs root: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	f.options.Path = filepath.Join(disk, "0.log")
	failed := make(chan error, 10)
	f.options.OnError = func(err error) { failed <- err }
	l := f.open()
	stop := f.run(l)
	text := strings.Repeat(strings.Repeat("x", 99)+"\n", 2000)
	f.says(text)
	if err := <-failed; !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	parse(t, read(t, f.options.Path)) // no line is cut
	if err := l.Note("x"); err != nil && !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("note: %v", err)
	}
	must(t, unix.Mount("none", disk, "", unix.MS_REMOUNT, "size=8m"))
	eventually(t, "the rest is logged", func() bool {
		return strings.Count(read(t, f.options.Path), "x\n") >= 2000
	})
	stop()
	must(t, l.Finish(context.Background()))
	equal(t, len(failed), 0)
	equal(t, strings.Replace(joined(f.logged()), "qemulet: x\n", "", 1), text)
}
