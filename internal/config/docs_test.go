package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md")

const page = "../../docs/configuration.md"

// The tables of the page are those of the code: go test ./internal/config -update
func TestDocumentation(t *testing.T) {
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	settings, virtlet := Markdown()
	text := between(t, between(t, string(raw), "settings", settings), "virtlet", virtlet)
	if text == string(raw) {
		return
	}
	if !*update {
		t.Fatalf("%s is not up to date: go test ./internal/config -update", page)
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// between replaces what is between the marks of a table.
func between(t *testing.T, text, mark, table string) string {
	t.Helper()
	begin, end := "<!-- begin "+mark+", generated -->\n", "<!-- end "+mark+" -->\n"
	before, rest, ok1 := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marks %q and %q", page, begin, end)
	}
	return before + begin + table + end + after
}
