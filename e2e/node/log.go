package node

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Line is one line of a CRI log file, put together from its pieces.
type Line struct {
	Time time.Time // of its first piece
	Text string
	Full bool // its end has been written
}

// crilog is the format of a log file's lines as kubelet reads it.
var crilog = regexp.MustCompile(`^(\S+) (stdout|stderr) ([FP])(?::\S*)? (.*)$`)

// ReadLog parses a CRI log file strictly: every line must have the format, no timestamp may be smaller than the one
// before.
func ReadLog(path string) ([]Line, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	text := string(data)
	// What the daemon is just writing has no newline yet.
	text = text[:strings.LastIndexByte(text, '\n')+1]
	var lines []Line
	var last time.Time
	for i, raw := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if raw == "" && text == "" {
			break
		}
		m := crilog.FindStringSubmatch(raw)
		if m == nil {
			return nil, fmt.Errorf("%s:%d is not in CRI log format: %q", path, i+1, raw)
		}
		at, err := time.Parse(time.RFC3339Nano, m[1])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
		if at.Before(last) {
			return nil, fmt.Errorf("%s:%d: time goes back from %v to %v", path, i+1, last, at)
		}
		last = at
		if k := len(lines) - 1; k >= 0 && !lines[k].Full {
			lines[k].Text += m[4]
			lines[k].Full = m[3] == "F"
		} else {
			lines = append(lines, Line{Time: at, Text: m[4], Full: m[3] == "F"})
		}
	}
	return lines, nil
}

// plain is a line without what a terminal would not show, and without the tiny guest's prompt, behind which every
// message lands that comes while the shell waits.
func plain(text string) string {
	text = escapes.ReplaceAllString(text, "")
	for strings.HasPrefix(text, "tiny# ") {
		text = strings.TrimPrefix(text, "tiny# ")
	}
	return text
}

// WaitLog waits for a line of the log that matches, prompts and escape sequences aside, and returns the match and its groups.
func WaitLog(tb testing.TB, path, pattern string, limit time.Duration) []string {
	tb.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	Eventually(tb, limit, func() error {
		lines, err := ReadLog(path)
		for _, l := range lines {
			if found = re.FindStringSubmatch(plain(l.Text)); found != nil {
				return nil
			}
		}
		return fmt.Errorf("no line %q among %d of %s (%v)", pattern, len(lines), path, err)
	})
	return found
}
