package qemulet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const troubleshooting = "docs/troubleshooting.md"

// entry is a pattern of the page: words of a message, with "..." for what may
// stand between them.
type entry struct {
	pattern string
	line    int
	area    *area
}

// area is a part of the page for the messages that some folders say.
type area struct {
	title   string
	folders []string
}

var (
	areaMark = regexp.MustCompile(`^<!-- said by: (.*) -->$`)
	codeSpan = regexp.MustCompile("`([^`]+)`")
)

// readEntries reads the patterns in the first column of the tables below the
// marks "<!-- said by: FOLDER... -->".
func readEntries(t *testing.T) []entry {
	t.Helper()
	raw, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	var now *area
	title := ""
	for i, line := range strings.Split(string(raw), "\n") {
		switch mark := areaMark.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "#"):
			title, now = strings.TrimLeft(line, "# "), nil
		case mark != nil:
			now = &area{title, strings.Fields(mark[1])}
		case now != nil && strings.HasPrefix(line, "| "):
			for _, span := range codeSpan.FindAllStringSubmatch(strings.Split(line, " | ")[0], -1) {
				entries = append(entries, entry{span[1], i + 1, now})
			}
		}
	}
	return entries
}

func (a *area) has(m message) bool {
	return slices.ContainsFunc(a.folders, func(folder string) bool {
		return m.where == folder || strings.HasPrefix(m.where, folder+"/") || strings.HasPrefix(m.where, folder+":")
	})
}

func (e entry) covers(m message) bool {
	if !e.area.has(m) {
		return false
	}
	rest := m.text
	for piece := range strings.SplitSeq(e.pattern, "...") {
		at := strings.Index(rest, strings.TrimSpace(piece))
		if at < 0 {
			return false
		}
		rest = rest[at+len(strings.TrimSpace(piece)):]
	}
	return true
}

// Whoever meets a message has to find it on the page, with its cause and what
// to do. Messages that only say what was being done when another occurred
// ("reading the file %s: %w", see onlyWraps) need not be there.
func TestEveryMessageIsExplained(t *testing.T) {
	entries := readEntries(t)
	messages, _ := collectMessages(t)
	for _, m := range messages {
		if !m.wrapping && !slices.ContainsFunc(entries, func(e entry) bool { return e.covers(m) }) {
			t.Errorf("%s: %s does not explain this message; %s", m.where, troubleshooting, advice(entries, m))
		}
	}
}

// advice says what to add to the page, and where.
func advice(entries []entry, m message) string {
	row := fmt.Sprintf("| `%s` | WHY | WHAT TO DO |", strings.ReplaceAll(strings.ReplaceAll(m.text, gap, "..."), "`", "..."))
	for _, e := range entries {
		if e.area.has(m) {
			return fmt.Sprintf("add a row to the table under %q, or its pattern to a row there: %s", e.area.title, row)
		}
	}
	return fmt.Sprintf("add a section with the line \"<!-- said by: %s -->\" and a table with the row: %s", filepath.Dir(m.where), row)
}

// An entry that nothing says any more misleads.
func TestEveryEntryIsSaid(t *testing.T) {
	_, written := collectMessages(t)
	for _, e := range readEntries(t) {
		if !slices.ContainsFunc(written, e.covers) {
			t.Errorf("%s:%d: nothing in %s says %q: remove it, or follow the code's new words", troubleshooting, e.line, strings.Join(e.area.folders, " "), e.pattern)
		}
		if len(strings.Join(strings.Fields(strings.ReplaceAll(e.pattern, "...", "")), "")) < 5 {
			t.Errorf("%s:%d: %q would cover too much: write more of its words", troubleshooting, e.line, e.pattern)
		}
	}
}

func TestEntryCovers(t *testing.T) {
	area := &area{folders: []string{"disks", "internal/runtime/exit.go"}}
	for _, c := range []struct {
		pattern, text, where string
		want                 bool
	}{
		{"in use", "disk … is in use", "disks/device.go:36", true},
		{"is ... with", "it is … now with …", "disks/device.go:36", true},
		{"with ... is", "it is … now with …", "disks/device.go:36", false},
		{"in use", "in use", "disks/sub/x.go:1", true},
		{"in use", "in use", "disksother/x.go:1", false},
		{"in use", "in use", "internal/runtime/exit.go:7", true},
		{"in use", "in use", "internal/runtime/exec.go:7", false},
	} {
		if got := (entry{c.pattern, 1, area}).covers(message{text: c.text, where: c.where}); got != c.want {
			t.Errorf("%q covers %q of %s: %v", c.pattern, c.text, c.where, got)
		}
	}
}

// What counts as a message, and what as the way to one.
func TestMessagesOfASource(t *testing.T) {
	dir := t.TempDir()
	source := `package p
const reasonGone = "Gone"
func refuse(field, reason string) {}
func f(err error) {
	errors.New("no such thing")
	fmt.Errorf("reading %s: %w", name, err)
	fmt.Errorf("reading %s, which is needed: %w", name, err)
	fmt.Errorf("%s: %w", name, err)
	fmt.Errorf("size %d: up to %d%% is accepted", n, m)
	refuse("a field", "is " + kind + " of another")
	r.Log.Warn("trying again", "error", err)
	r.Log.Info("all is well")
	_ = []Finding{{Text: "it is down"}, {OK: true, Text: "it is up"}}
}
func (e *E) Error() string { return "it broke in two: " + e.what }
`
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range readPackage(t, dir).found {
		text := m.text
		if m.wrapping {
			text += " (wrapping)"
		}
		got = append(got, text)
	}
	want := []string{"Gone", "no such thing", "reading …: … (wrapping)", "reading …, which is needed: …", "size …: up to …% is accepted",
		"is … of another", "trying again", "it is down", "it broke in two: …"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, expected %q", got, want)
	}
}
