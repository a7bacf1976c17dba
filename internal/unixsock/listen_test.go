package unixsock

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "us")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func mustListen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := Listen(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestListen(t *testing.T) {
	path := filepath.Join(shortDir(t), "a.sock")
	l := mustListen(t, path)
	if got := l.Addr().String(); got != path {
		t.Errorf("Addr is %q, want %q", got, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o660 {
		t.Errorf("permissions are %o, want 660", info.Mode().Perm())
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestListenRefusesLiveSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "a.sock")
	mustListen(t, path)
	_, err := Listen(path, 0o660)
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an already-exists error that names %s", err, path)
	}
}

func TestListenReplacesDeadSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "a.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	mustListen(t, path)
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "a.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path, 0o660); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v, want a failed precondition", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Errorf("the file was changed to %q", got)
	}
}

func TestListenPathLength(t *testing.T) {
	deep := shortDir(t)
	for len(deep) < 95 {
		deep = filepath.Join(deep, "0123456789")
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	fits := filepath.Join(deep, strings.Repeat("s", maxPath-len(deep)-1))
	mustListen(t, fits)
	if _, err := Listen(fits+"x", 0o660); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "108") {
		t.Errorf("got %v, want an invalid argument that names the length", err)
	}
}

// The successor has taken the path over: the predecessor must not remove it.
func TestCloseRemovesOnlyItsOwn(t *testing.T) {
	path := filepath.Join(shortDir(t), "a.sock")
	first := mustListen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mustListen(t, path)
	first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
