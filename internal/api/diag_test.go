package api

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDiagnosisWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	d := Diagnosis{Files: map[string]string{"a.txt": "A", "pods/x/b.txt": "B"}}
	for range 2 { // the second one replaces
		if err := d.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range d.Files {
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "pods/x/b.txt")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A document of somebody else's leads nowhere else.
func TestDiagnosisStaysInItsDirectory(t *testing.T) {
	parent := t.TempDir()
	for _, path := range []string{"../out", "/out", "a/../../out", ""} {
		if err := (Diagnosis{Files: map[string]string{path: "x"}}).Write(filepath.Join(parent, "d")); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	if _, err := os.Stat(filepath.Join(parent, "out")); err == nil {
		t.Error("a file is outside")
	}
}
