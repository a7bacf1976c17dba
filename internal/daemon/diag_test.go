package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestArgvOf(t *testing.T) {
	got := argvOf(`{"vm": {"hypervisor": {"path": "/bin/qemu", "parameters": ["-m", "1 2"]}}}`)
	if got != "/bin/qemu\n-m\n1 2\n" {
		t.Errorf("%q", got)
	}
	if got := argvOf("error: no such file"); !strings.HasPrefix(got, "error: ") {
		t.Errorf("%q", got)
	}
}

// Of a large file its end is taken.
func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", diagFile)+"the end"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tail(path); len(got) != diagFile || !strings.HasSuffix(got, "the end") {
		t.Errorf("%d bytes", len(got))
	}
	if got := tail(path + ".none"); !strings.Contains(got, "no such file") {
		t.Errorf("%q", got)
	}
}

// What a program cannot say stands in its place.
func TestProgram(t *testing.T) {
	if got := program(context.Background(), "sh", "-c", "echo said; exit 3"); got != "said\n\nerror: exit status 3\n" {
		t.Errorf("%q", got)
	}
	if got := program(context.Background(), "/no/such/program"); !strings.Contains(got, "error: ") {
		t.Errorf("%q", got)
	}
}

// CNI's configurations may hold credentials.
func TestCNINames(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-a.conflist"), []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := diagnosis{}
	d.cniNames(dir)
	if got := d["cni.txt"]; !strings.HasPrefix(got, "10-a.conflist 7 bytes") || strings.Contains(got, "hunter2") {
		t.Errorf("%q", got)
	}
}

func TestCgroupNumbers(t *testing.T) {
	if got := cgroupNumbers(os.Getpid()); strings.HasPrefix(got, "error: ") {
		t.Errorf("%q", got)
	}
}
