package changes

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCounter(t *testing.T) {
	path := Beside(filepath.Join(t.TempDir(), "cri.sock"))
	if _, err := Read(path); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	c := open(t, path)
	seen := read(t, path)
	if again := read(t, path); again != seen {
		t.Errorf("%d has become %d, and nothing has changed", seen, again)
	}
	for range 3 {
		if err := c.Count(); err != nil {
			t.Fatal(err)
		}
		now := read(t, path)
		if now == seen {
			t.Errorf("still %d after a change", now)
		}
		seen = now
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if now := read(t, path); now <= seen {
		t.Errorf("the next owner went from %d to %d", seen, now)
	}
}

func TestAFileThatCannotBeWrittenGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes")
	c := open(t, path)
	c.f.Close()
	if err := c.Count(); err == nil {
		t.Error("no error")
	}
	if _, err := Read(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

func open(t *testing.T, path string) *Counter {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func read(t *testing.T, path string) uint64 {
	t.Helper()
	n, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
