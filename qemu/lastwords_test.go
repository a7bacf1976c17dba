package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// logFile makes a log with a start mark and some lines.
func logFile(t testing.TB, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu.log")
	mark := startMark(time.Unix(1, 0), Invocation{UUID: testUUID, Binary: "/usr/bin/qemu-system-x86_64"})
	if err := os.WriteFile(path, []byte(mark+strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Lines as QEMU 7.2 writes them.
const (
	lineRuns       = "6990@1795375022.885662:runstate_set current_run_state 6 (prelaunch) new_state 9 (running)"
	linePowerdown  = "5224@1795375946.158213:qemu_system_powerdown_request "
	lineOff        = "6995@1795375022.942679:qemu_system_shutdown_request reason=6"
	lineQuit       = "5100@1795374942.546231:qemu_system_shutdown_request reason=2"
	lineStops      = "6990@1795375022.942773:runstate_set current_run_state 9 (running) new_state 11 (shutdown)"
	linePanicked   = "7000@1795375024.960102:runstate_set current_run_state 9 (running) new_state 14 (guest-panicked)"
	lineInternal   = "7000@1795375024.960102:runstate_set current_run_state 9 (running) new_state 4 (internal-error)"
	lineTerminated = "2026-11-22T19:15:46.674263Z t qemu-system-x86_64: terminating on signal 15 from pid 5249 (pkill)"
	lineWarning    = "2026-11-22T19:15:46.674263Z t qemu-system-x86_64: warning: TCG doesn't support requested feature"
	lineError      = "2026-11-22T19:15:47.810322Z t qemu-system-x86_64: -drive file=x: Could not open 'x': No such file or directory"
)

func TestReadEnding(t *testing.T) {
	offAt := time.Unix(1795375022, 942679000)
	cases := []struct {
		name   string
		lines  []string
		reason Reason // "" if the log says nothing
		at     time.Time
		code   int
	}{
		{"runs", []string{lineRuns, lineWarning}, "", time.Time{}, 0},
		{"powered off", []string{lineRuns, lineOff, lineStops}, GuestShutdown, offAt, 0},
		{"powered off, not stopped yet", []string{lineRuns, lineOff}, GuestShutdown, offAt, 0},
		{"asked to", []string{lineRuns, linePowerdown, lineOff, lineStops}, Stopped, offAt, 0},
		{"then quit", []string{lineRuns, lineOff, lineStops, lineQuit}, GuestShutdown, offAt, 0},
		{"then terminated", []string{lineRuns, lineOff, lineStops, lineTerminated}, GuestShutdown, offAt, 0},
		{"quit", []string{lineRuns, lineQuit, lineStops}, Killed, time.Unix(1795374942, 546231000), 137},
		{"panicked", []string{lineRuns, linePanicked}, GuestPanic, time.Unix(1795375024, 960102000), 1},
		{"internal error", []string{lineRuns, lineInternal}, Crash, time.Unix(1795375024, 960102000), 1},
		{"terminated", []string{lineRuns, lineTerminated, lineStops}, HostSignal, time.Date(2026, 11, 22, 19, 15, 46, 674263000, time.UTC), 143},
		{"terminated, prelaunch", []string{lineTerminated}, HostSignal, time.Date(2026, 11, 22, 19, 15, 46, 674263000, time.UTC), 143},
		{"stopped without a word", []string{lineRuns, lineStops}, HostSignal, time.Unix(1795375022, 942773000), 143},
		{"panicked, and was continued", []string{lineRuns, linePanicked, strings.Replace(lineRuns, "prelaunch", "guest-panicked", 1)}, "", time.Time{}, 0},
		{"unknown number", []string{lineRuns, strings.Replace(lineOff, "=6", "=99", 1)}, Unknown, offAt, 255},
		{"no time", []string{lineRuns, strings.TrimPrefix(lineOff, "6995@1795375022.942679:")}, GuestShutdown, time.Time{}, 0},
		// As QEMU 10.2 writes traces: as it does messages.
		{"later QEMU", []string{"2026-11-22T19:15:46.674263Z t qemu-system-x86_64(1:main): qemu_system_shutdown_request reason=6"},
			GuestShutdown, time.Date(2026, 11, 22, 19, 15, 46, 674263000, time.UTC), 0},
		{"another machine before", []string{lineRuns, lineOff, "2026-11-22T19:15:46.674263Z " + startWord + testUUID + ": /usr/bin/qemu"}, "", time.Time{}, 0},
		{"said by a guest's name", []string{"2026-11-22T19:15:46.674263Z a qemu_system_shutdown_requests b qemu-system-x86_64: warning: x"}, "", time.Time{}, 0},
	}
	for _, c := range cases {
		e, found := ReadEnding(logFile(t, c.lines...))
		if found != (c.reason != "") || e.Reason != c.reason || !e.Time.Equal(c.at) || e.ExitCode != c.code {
			t.Errorf("%s: %+v, %v", c.name, e, found)
		}
	}
	if e, found := ReadEnding("/nonexistent"); found {
		t.Errorf("no log: %+v", e)
	}
}

func TestLastWords(t *testing.T) {
	cases := []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, ""},
		{"an error", []string{lineWarning, lineRuns, lineError}, "-drive file=x: Could not open 'x': No such file or directory"},
		{"an assertion", []string{"qemu-system-x86_64: ../hw/x.c:12: f: Assertion `a' failed."}, "../hw/x.c:12: f: Assertion `a' failed."},
		{"of the C library", []string{"corrupted size vs. prev_size"}, "corrupted size vs. prev_size"},
		{"a warning about a device", []string{"2026-11-22T19:15:46.674263Z t qemu-system-x86_64: -device x: warning: old"}, ""},
		{"lines", []string{"a", "", "b"}, "a; b"},
		{"of one before", []string{"a", "2026 " + startWord + testUUID + ": /x", "b"}, "b"},
		{"bytes", []string{"a\xff\x1b[1mb\u00e9"}, "a??[1mb\u00e9"},
	}
	for _, c := range cases {
		if got := lastWords(logFile(t, c.lines...)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if w := lastWords("/nonexistent"); w != "" {
		t.Errorf("no log: %q", w)
	}
}

// A log of any size costs the same, and its last line is whole.
func TestLongLog(t *testing.T) {
	path := logFile(t, strings.Repeat("x\u00e9", 1<<20), lineRuns, lineOff, "the last word "+strings.Repeat("\u00e9", 3000))
	if e, _ := ReadEnding(path); e.Reason != GuestShutdown {
		t.Errorf("ending %+v", e)
	}
	if w := lastWords(path); len(w) > maxWordBytes+3 || !utf8.ValidString(w) || !strings.HasSuffix(w, "\u00e9") {
		t.Errorf("%d bytes: %q", len(w), w)
	}
	p, err := readLogPart(path)
	if err != nil || len(p.lines) != 3 || p.lines[0] != lineRuns {
		t.Errorf("%d lines, %v", len(p.lines), err)
	}
}

// The signal's number is told by words only.
func TestSignalNumber(t *testing.T) {
	s := readState(logFile(t, lineRuns, strings.Replace(lineTerminated, "signal 15", "signal 1", 1)))
	if s.cause != causeSignal || s.signal != syscall.SIGHUP {
		t.Errorf("%+v", s)
	}
}

func FuzzLog(f *testing.F) {
	for _, line := range []string{lineRuns, linePowerdown, lineOff, lineStops, linePanicked, lineTerminated, lineError, startWord, "\n", "1@2.3:runstate_set new_state (x"} {
		f.Add(line+"\n"+lineOff, false)
		f.Add(line, true)
	}
	f.Fuzz(func(t *testing.T, text string, cut bool) {
		p := parseLogPart(text, cut)
		var s lastState
		for _, line := range p.lines {
			s.read(line)
			if w := printableText(p.strip(line), 100); !utf8.ValidString(w) || len(w) > 103 {
				t.Errorf("%q becomes %q", line, w)
			}
		}
		evidence{said: s}.ending()
	})
}
