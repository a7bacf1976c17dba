package ids

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		id := New()
		if !Ours(id) || strings.ToLower(id) != id {
			t.Fatalf("New() = %q: not 64 lower-case hex digits with the lead", id)
		}
		if s := Short(id); len(s) != 12 || seen[s] || !strings.HasPrefix(id, Lead+s) {
			t.Fatalf("Short(%q) = %q", id, s)
		}
		seen[Short(id)] = true
	}
}

func TestOurs(t *testing.T) {
	for id, want := range map[string]bool{
		"":                                   false,
		Lead:                                 false,
		Lead + strings.Repeat("0", 56):       true,
		"0" + Lead + strings.Repeat("0", 55): false,
		Lead + strings.Repeat("0", 57):       false,
		strings.Repeat("a", 64):              false,
	} {
		if Ours(id) != want {
			t.Errorf("Ours(%q) = %v", id, !want)
		}
	}
	if Short("716d6c74ab") != "ab" || Short("abc") != "abc" {
		t.Error("Short of a short id")
	}
}
