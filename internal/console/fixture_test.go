package console

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// fixture is a VM's console file and the log made of it.
type fixture struct {
	t       *testing.T
	dir     string
	options LogOptions
	guest   *os.File // as QEMU has it
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	w, err := NewWatcher()
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return fixtureWith(t, w)
}

func fixtureWith(t *testing.T, w *Watcher) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{t: t, dir: dir, options: LogOptions{
		Source:  filepath.Join(dir, "console.log"),
		Path:    filepath.Join(dir, "0.log"),
		Watcher: w,
	}}
	var err error
	f.guest, err = os.OpenFile(f.options.Source, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	t.Cleanup(func() { _ = f.guest.Close() })
	return f
}

func (f *fixture) says(text string) {
	f.t.Helper()
	_, err := f.guest.WriteString(text)
	must(f.t, err)
}

func (f *fixture) open() *Log {
	f.t.Helper()
	l, err := OpenLog(f.options)
	must(f.t, err)
	f.t.Cleanup(func() { must(f.t, l.Close()) })
	return l
}

// run runs the log until the test ends, or until the result is called.
func (f *fixture) run(l *Log) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	}
	f.t.Cleanup(stop)
	return stop
}

func (f *fixture) drain(l *Log) {
	f.t.Helper()
	_, err := l.drain(context.Background())
	must(f.t, err)
}

// logged is the log file, with those it was rotated to before it.
func (f *fixture) logged() []line { return parse(f.t, logOf(f.t, f.options.Path)) }

func logOf(t *testing.T, path string) string {
	t.Helper()
	rotated, err := filepath.Glob(path + ".*")
	must(t, err)
	var b strings.Builder
	for _, name := range append(rotated, path) {
		text, err := os.ReadFile(name)
		must(t, err)
		b.Write(text)
	}
	return b.String()
}

type line struct {
	at   time.Time
	tag  string
	text string
}

// parse checks the CRI's format and that times do not go back.
func parse(t *testing.T, log string) []line {
	t.Helper()
	if log == "" {
		return nil
	}
	if !strings.HasSuffix(log, "\n") {
		t.Fatalf("log ends within a line: %q", log[max(0, len(log)-100):])
	}
	var all []line
	for i, s := range strings.Split(strings.TrimSuffix(log, "\n"), "\n") {
		stamp, s, _ := strings.Cut(s, " ")
		stream, s, _ := strings.Cut(s, " ")
		tag, text, found := strings.Cut(s, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil || stream != "stdout" || !found || tag != "P" && tag != "F" {
			t.Fatalf("line %d is not in the CRI's format: %.200q", i, s)
		}
		if len(text) > maxPiece {
			t.Fatalf("line %d has %d bytes, more than %d", i, len(text), maxPiece)
		}
		if len(all) > 0 && at.Before(all[len(all)-1].at) {
			t.Fatalf("line %d is of %s, before its predecessor's %s", i, at, all[len(all)-1].at)
		}
		all = append(all, line{at, tag, text})
	}
	return all
}

// joined is the text as a reader of the log sees it.
func joined(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text)
		if l.tag == "F" {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// short is the lines as tag and text, for comparing.
func short(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.tag + " " + l.text + "\n")
	}
	return b.String()
}

var crs = regexp.MustCompile("\r+\n")

// asRead is what a reader of the log should see of the guest's output.
func asRead(guest string) string { return crs.ReplaceAllString(guest, "\n") }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got\n%.2000v\nwant\n%.2000v", got, want)
	}
}

// eventually awaits a condition that no event tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}
