package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = acquire(dir)
	if !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("got %v, want an error that names the directory and the process", err)
	}
	first.Close()
	second, err := acquire(dir)
	if err != nil {
		t.Fatalf("a lock that was given up is held: %v", err)
	}
	second.Close()
}

func TestQEMUBinary(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if got := qemuBinary("/opt/qemu"); got != "/opt/qemu" {
		t.Errorf("the setting became %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, commonBinary), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := qemuBinary(""); got != commonBinary {
		t.Errorf("got %s", got)
	}
}

func TestQEMUCredential(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	c, err := qemuCredential("no-such-user", log)
	if err != nil {
		t.Fatal(err)
	}
	if c.Uid == 0 || c.Gid == 0 {
		t.Errorf("QEMU would run as root: %+v", c)
	}
	if !strings.Contains(out.String(), "no-such-user") {
		t.Errorf("the log does not say so: %s", out.String())
	}
	if root, err := qemuCredential("root", log); err != nil || root.Uid != 0 {
		t.Errorf("root: %+v, %v", root, err)
	}
}

func TestCgroupDriver(t *testing.T) {
	if got := cgroupDriver("systemd"); got != runtimeapi.CgroupDriver_SYSTEMD {
		t.Errorf("systemd: %s", got)
	}
	if got := cgroupDriver("cgroupfs"); got != runtimeapi.CgroupDriver_CGROUPFS {
		t.Errorf("cgroupfs: %s", got)
	}
	want := runtimeapi.CgroupDriver_CGROUPFS
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		want = runtimeapi.CgroupDriver_SYSTEMD
	}
	if got := cgroupDriver("auto"); got != want {
		t.Errorf("auto: %s, want %s", got, want)
	}
}
