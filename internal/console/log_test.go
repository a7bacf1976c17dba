package console

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLogFollows(t *testing.T) {
	f := newFixture(t)
	f.says("before\r\n")
	f.run(f.open())
	for _, text := range []string{"one\r\n", "two\n"} {
		f.says(text)
		want := strings.TrimSpace(text)
		eventually(t, want+" is logged", func() bool { return strings.Contains(short(f.logged()), "F "+want+"\n") })
	}
	equal(t, short(f.logged()), "F before\nF one\nF two\n")
}

func TestPromptShowsAfterASecond(t *testing.T) {
	f := newFixture(t)
	f.run(f.open())
	begun := time.Now()
	f.says("login: ")
	eventually(t, "the prompt", func() bool { return len(f.logged()) > 0 })
	if took := time.Since(begun); took < showPartialAfter || took > 2*showPartialAfter {
		t.Errorf("shown after %s", took)
	}
	f.says("root\r\n")
	eventually(t, "the rest", func() bool { return len(f.logged()) > 1 })
	equal(t, short(f.logged()), "P login: \nF root\n")
}

func TestFinish(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	stop := f.run(l)
	f.says(strings.Repeat("a line\n", 20000) + "bye")
	stop()
	must(t, l.Finish(context.Background()))
	must(t, l.Finish(context.Background()))
	must(t, l.Close())
	must(t, l.Close())
	must(t, l.Run(context.Background()))
	equal(t, joined(f.logged()), strings.Repeat("a line\n", 20000)+"bye\n")

	// A daemon that died right after it does the same again.
	must(t, f.open().Finish(context.Background()))
	equal(t, len(f.logged()), 20001)
}

func TestFinishWhileRunning(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.run(l)
	f.says(strings.Repeat("a line\n", 50000))
	must(t, l.Finish(context.Background()))
	equal(t, len(f.logged()), 50000)
}

func TestFinishIsBoundByContext(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.says("bye")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	must(t, l.Finish(context.Background()))
	equal(t, short(f.logged()), "F bye\n")
}

func TestAfterClose(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	must(t, l.Close())
	for name, err := range map[string]error{
		"Finish": l.Finish(context.Background()),
		"Reopen": l.Reopen(),
		"Note":   l.Note("x"),
	} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, l.Run(context.Background()))
}

func TestCloseEndsRun(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	stop := f.run(l)
	must(t, l.Close())
	stop()
}

func TestOpenErrors(t *testing.T) {
	f := newFixture(t)
	check := func(what, named string, is error, change func(o *LogOptions)) {
		t.Helper()
		o := f.options
		change(&o)
		l, err := OpenLog(o)
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		if l != nil || !errors.Is(err, is) || !strings.Contains(err.Error(), named) {
			t.Errorf("%s: %v", what, err)
		}
	}
	missing := filepath.Join(f.dir, "missing")
	check("no source", missing, fs.ErrNotExist, func(o *LogOptions) { o.Source = missing })
	check("no directory", "directory "+missing+" is missing", fs.ErrNotExist, func(o *LogOptions) { o.Path = filepath.Join(missing, "0.log") })
	check("a directory", f.dir, syscall.EISDIR, func(o *LogOptions) { o.Path = f.dir })
	check("no watcher", f.options.Source, errNoWatcher, func(o *LogOptions) { o.Watcher = nil })

	fifo := filepath.Join(f.dir, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	o := f.options
	o.Path = fifo
	if _, err := OpenLog(o); err == nil || !strings.Contains(err.Error(), "only a regular file") {
		t.Errorf("a fifo: %v", err)
	}
}

func TestExistingLogIsAppendedTo(t *testing.T) {
	f := newFixture(t)
	must(t, os.WriteFile(f.options.Path, []byte("2026-01-01T00:00:00.0Z stdout F earlier\n"), 0o600))
	f.says("now\n")
	must(t, f.open().Finish(context.Background()))
	equal(t, short(f.logged()), "F earlier\nF now\n")
}

func TestTimesDoNotGoBack(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	future := time.Now().Add(time.Hour)
	l.now = func() time.Time { return future }
	f.says("one\n")
	f.drain(l)
	must(t, l.Close())
	l = f.open() // its clock is right again
	f.says("two\n")
	f.drain(l)
	got := f.logged() // checks the order
	equal(t, len(got), 2)
}

func TestNote(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	must(t, l.Note("first\nsecond"))
	f.says("login: ")
	f.drain(l)
	l.waiting.since = l.waiting.since.Add(-showPartialAfter)
	f.drain(l)
	must(t, l.Note(strings.Repeat("x", maxPiece)))
	must(t, l.Note(""))
	f.says("root\n")
	f.drain(l)
	must(t, l.Close())
	must(t, f.open().Finish(context.Background()))
	x := strings.Repeat("x", maxPiece-len("qemulet: "))
	equal(t, short(f.logged()), "F qemulet: first\nF qemulet: second\nP login: \nF \nP qemulet: "+x+"\nF xxxxxxxxx\nF root\n")
}

func TestDiscard(t *testing.T) {
	f := newFixture(t)
	f.options.Path = ""
	l := f.open()
	must(t, l.Note("nobody sees this"))
	must(t, l.Reopen())
	stop := f.run(l)
	f.says(strings.Repeat("x", 1<<20))
	eventually(t, "the source is freed", func() bool { return onDisk(t, f.options.Source) < keepBytes+2*punchStep })
	stop()
	must(t, l.Finish(context.Background()))
	entries, err := os.ReadDir(f.dir)
	must(t, err)
	equal(t, len(entries), 2) // source and position
}

func onDisk(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	must(t, syscall.Stat(path, &st))
	return st.Blocks * 512
}

func TestConsumedSourceIsFreed(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	text := strings.Repeat(strings.Repeat("x", 99)+"\n", 1000)
	for range 20 {
		f.says(text)
		f.drain(l)
		if got := onDisk(t, f.options.Source); got > keepBytes+2*punchStep {
			t.Fatalf("%d bytes of the source are on disk", got)
		}
	}
	equal(t, size(t, f.options.Source), int64(20*len(text)))
	equal(t, joined(f.logged()), strings.Repeat(text, 20))
}

func TestBacklogIsCapped(t *testing.T) {
	f := newFixture(t)
	f.options.MaxBacklog = 1 << 20
	l := f.open()
	f.says("begin\nlogin: ")
	f.drain(l)
	l.waiting.since = l.waiting.since.Add(-showPartialAfter)
	f.drain(l)
	text := strings.Repeat(strings.Repeat("x", 99)+"\n", 20000)
	f.says(text)
	must(t, l.Finish(context.Background()))
	got := f.logged()
	equal(t, short(got[:3]), "F begin\nP login: \nF \n")
	kept := int64(len(joined(got[4:])))
	equal(t, got[3].text, "qemulet: "+itoa(int64(len(text))-kept)+" bytes of console output were dropped here: more came than could be logged")
	if kept < f.options.MaxBacklog/2-100 || kept > f.options.MaxBacklog {
		t.Errorf("kept %d", kept)
	}
	for _, l := range got[4:] {
		equal(t, len(l.text), 99)
	}
}

func TestSourceCutBySomeone(t *testing.T) {
	f := newFixture(t)
	l := f.open()
	f.says("one\n")
	f.drain(l)
	must(t, os.Truncate(f.options.Source, 0))
	f.says("2\n")
	f.drain(l)
	f.says("three\n")
	must(t, l.Finish(context.Background()))
	equal(t, short(f.logged()), "F one\nF 2\nF three\n")
}
