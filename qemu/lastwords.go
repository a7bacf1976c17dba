package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/qemulet/qemulet/qmp"
)

// This file alone decides on the wording of QEMU's log. A line is a trace, a
// warning or a word, and what stands before it depends on QEMU's version:
//
//	6995@1795375022.942679:qemu_system_shutdown_request reason=6
//	2026-11-22T19:15:46.674263Z name qemu-system-x86_64: terminating on signal 15 from pid 5249 (pkill)

// logTail is how much of a log's end is looked at, in bytes.
const logTail = 32 << 10

// logTime is how QEMU writes the time, and we do.
const logTime = "2006-01-02T15:04:05.000000Z"

// startWord marks, in a log that several processes have written one after the
// other, where the part of one begins.
const startWord = "starting machine "

func startMark(now time.Time, inv Invocation) string {
	return fmt.Sprintf("%s %s%s: %s\n", now.UTC().Format(logTime), startWord, inv.UUID, inv.Binary)
}

// logPart is what the last process has written to a log.
type logPart struct {
	program string // its name, if the part's beginning was seen
	lines   []string
}

// readLogPart reads as much of it as is in the log's tail.
func readLogPart(path string) (logPart, error) {
	f, err := os.Open(path)
	if err != nil {
		return logPart{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return logPart{}, err
	}
	from := max(info.Size()-logTail, 0)
	text := make([]byte, info.Size()-from)
	n, err := f.ReadAt(text, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return logPart{}, err
	}
	return parseLogPart(string(text[:n]), from > 0), nil
}

// parseLogPart splits a log's tail, of which the first line may be a part only.
func parseLogPart(text string, cut bool) logPart {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if cut {
		lines = lines[1:]
	}
	p := logPart{lines: lines}
	for i, line := range lines {
		if _, start, found := strings.Cut(line, startWord); found {
			_, binary, _ := strings.Cut(start, ": ")
			p = logPart{program: filepath.Base(binary), lines: lines[i+1:]}
		}
	}
	return p
}

// ReadEnding tells from a machine's log what the machine has said of its end, and
// when: also of an end that nobody was there to see. It is false when the log says
// nothing of it, as after a death without a word.
func ReadEnding(logPath string) (Ending, bool) {
	said := readState(logPath)
	if said.cause == causeNone {
		return Ending{}, false
	}
	return evidence{said: said, words: lastWords(logPath)}.ending(), true
}

// readState is what the log's last machine has said of its end.
func readState(logPath string) lastState {
	var s lastState
	p, _ := readLogPart(logPath)
	for _, line := range p.lines {
		s.read(line)
	}
	return s
}

var (
	traceLine  = regexp.MustCompile(`^(?:\d+@(\d+)\.(\d{6}):|(\d{4}-\d\d-\d\dT[0-9:.]+Z) (?:.* )?)?(runstate_set|qemu_system_shutdown_request|qemu_system_powerdown_request)\b(.*)`)
	traceState = regexp.MustCompile(`new_state \d+ \(([a-z-]+)\)`)
	traceCause = regexp.MustCompile(`reason=(\d+)`)
	signalLine = regexp.MustCompile(`^()()(\d{4}-\d\d-\d\dT[0-9:.]+Z) .*: terminating on signal (\d+)`)
)

// read goes on to the state after one more line.
func (s *lastState) read(line string) {
	if m := signalLine.FindStringSubmatch(line); m != nil {
		n, _ := strconv.Atoi(m[4])
		s.signal = syscall.Signal(n)
		s.end(causeSignal, lineTime(m))
		return
	}
	m := traceLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	switch m[4] {
	case "qemu_system_powerdown_request":
		s.asked = true
	case "qemu_system_shutdown_request":
		s.readRequest(m[5], lineTime(m))
	case "runstate_set":
		s.readRunState(m[5], lineTime(m))
	}
}

// end notes an end; the first one counts.
func (s *lastState) end(c cause, at time.Time) {
	if s.cause == causeNone {
		s.cause, s.time = c, at
	}
}

// shutdownCauses are QAPI's ShutdownCause by number; it only ever grows.
var shutdownCauses = [...]string{"none", "host-error", "host-qmp-quit", "host-qmp-system-reset", "host-signal", "host-ui",
	"guest-shutdown", "guest-reset", "guest-panic", "subsystem-reset", "snapshot-load"}

func (s *lastState) readRequest(text string, at time.Time) {
	m := traceCause.FindStringSubmatch(text)
	if m == nil {
		return
	}
	reason := m[1]
	if n, err := strconv.Atoi(reason); err == nil && n < len(shutdownCauses) {
		reason = shutdownCauses[n]
	}
	if s.cause == causeNone {
		s.info = reason
	}
	s.end(causeOfShutdown(reason), at)
}

func (s *lastState) readRunState(text string, at time.Time) {
	m := traceState.FindStringSubmatch(text)
	if m == nil {
		return
	}
	switch state := qmp.RunState(m[1]); state {
	case qmp.RunStateRunning:
		s.cause, s.time, s.info = causeNone, time.Time{}, "" // it goes on
	case qmp.RunStateShutdown:
		// Only a signal comes to this without a request.
		s.end(causeSignal, at)
	default:
		s.end(endOfRunState[state], at)
	}
}

// lineTime is the time in either of a line's first parts.
func lineTime(m []string) time.Time {
	if m[1] != "" {
		sec, _ := strconv.ParseInt(m[1], 10, 64)
		usec, _ := strconv.ParseInt(m[2], 10, 64)
		return time.Unix(sec, usec*1000)
	}
	at, _ := time.Parse(time.RFC3339Nano, m[3])
	return at.Local()
}

// Bounds on what is quoted.
const (
	maxWordLines = 8
	maxWordBytes = 1 << 10
)

var warningLine = regexp.MustCompile(`(^|: )(warning|info): `)

// lastWords are the last lines a process has written to its log that are neither
// traces nor warnings, without what stands before them, as one line of text; ""
// if there are none.
func lastWords(logPath string) string {
	p, _ := readLogPart(logPath)
	var words []string
	for _, line := range p.lines {
		line = strings.TrimSpace(p.strip(line))
		if line != "" && !traceLine.MatchString(line) && !warningLine.MatchString(line) {
			words = append(words, line)
		}
	}
	words = words[max(len(words)-maxWordLines, 0):]
	return printableText(strings.Join(words, "; "), maxWordBytes)
}

var timePrefix = regexp.MustCompile(`^\d{4}-\d\d-\d\dT[0-9:.]+Z `)

// strip cuts time, machine and program off a line.
func (p logPart) strip(line string) string {
	if traceLine.MatchString(line) {
		return line
	}
	line = timePrefix.ReplaceAllString(line, "")
	if _, rest, found := strings.Cut(line, p.program+": "); found && p.program != "" {
		return rest
	}
	return line
}

// printableText makes text of what may be anything, and keeps its end.
func printableText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) > limit {
		s = "..." + strings.ToValidUTF8(s[len(s)-limit:], "")
	}
	return s
}
