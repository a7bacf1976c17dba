package qemu

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestRaiseParent(t *testing.T) {
	c := hostCgroup(t, hostHierarchies(t), nil)
	d, found := c.controller("memory")
	if !found {
		t.Skip("this host has no memory controller")
	}
	file := filepath.Join(filepath.Dir(d.path), "memory.limit_in_bytes")
	if d.v2() {
		file = filepath.Join(filepath.Dir(d.path), "memory.max")
	}
	const kubelets, needed = 64<<20 + 17, 160 << 20
	raise := func(from, to int64, want bool, limit int64) {
		t.Helper()
		raised, err := c.RaiseParent(t.Context(), from, to)
		if err != nil || raised != want {
			t.Errorf("from %d to %d: %t, %v, want %t", from, to, raised, err, want)
		}
		if text, _ := os.ReadFile(file); limit > 0 && strings.TrimSpace(string(text)) != strconv.FormatInt(limit, 10) {
			t.Errorf("from %d to %d: the limit is %s, want %d", from, to, text, limit)
		}
	}
	raise(kubelets, needed, false, 0) // no limit at all
	if err := writeCgroup(file, strconv.Itoa(kubelets)); err != nil {
		t.Fatal(err)
	}
	raise(48<<20, needed, false, 64<<20) // somebody else's
	raise(kubelets, 32<<20, false, 64<<20)
	raise(kubelets, needed, true, needed)
	raise(kubelets, needed, false, needed) // once
}

func TestSetSliceProperty(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$@\" >" + dir + "/said\n[ \"$3\" != bad.slice ] || { echo no such slice >&2; exit 1; }\n"
	if err := os.WriteFile(dir+"/systemctl", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if err := setSliceProperty(t.Context(), "kubepods-pod1.slice", "MemoryMax=1024"); err != nil {
		t.Fatal(err)
	}
	if said, _ := os.ReadFile(dir + "/said"); string(said) != "set-property --runtime kubepods-pod1.slice MemoryMax=1024\n" {
		t.Errorf("systemctl was told %q", said)
	}
	if err := setSliceProperty(t.Context(), "bad.slice", "MemoryMax=1"); err == nil || !strings.Contains(err.Error(), "no such slice") {
		t.Errorf("error %v does not say why", err)
	}
}
