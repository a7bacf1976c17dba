package qemu

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// fakeGroup is a v2 control group of plain files.
func fakeGroup(t *testing.T, files map[string]string) *Cgroup {
	t.Helper()
	mount := t.TempDir()
	for name, text := range files {
		path := filepath.Join(mount, "vm", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := loadCgroup([]hierarchy{{mount: mount}}, "/vm")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUsageV2(t *testing.T) {
	c := fakeGroup(t, map[string]string{
		"cgroup.controllers":  "cpu memory",
		"cpu.stat":            "usage_usec 1500000\nuser_usec 1\nthrottled_usec 2000\n",
		"memory.current":      "1000\n",
		"memory.stat":         "anon 300\nfile 500\nshmem 100\ninactive_file 400\npgfault 7\npgmajfault 2\n",
		"memory.swap.current": "50\n",
		"cgroup.procs":        "31\n4\n",
		"memory.events":       "low 0\noom 1\noom_kill 1\n",
	})
	got, err := c.Usage()
	want := CgroupUsage{CPU: 1500 * time.Millisecond, Throttled: 2 * time.Millisecond, Memory: 1000, WorkingSet: 600, RSS: 400, Swap: 50, PageFaults: 7, MajorPageFaults: 2, OOMKills: 1, Processes: 2}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// This host's own counters grow with what a process does.
func TestUsageHost(t *testing.T) {
	c := hostCgroup(t, hostHierarchies(t), nil)
	busy(t, c)
	got, err := c.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if got.CPU < 10*time.Millisecond || got.Memory == 0 && got.PageFaults == 0 {
		t.Errorf("%+v", got)
	}
}

func TestUsageOfNothing(t *testing.T) {
	c := fakeGroup(t, map[string]string{"cgroup.controllers": "memory"})
	if _, err := c.Usage(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// busy has a process in the group use some processor time.
func busy(t *testing.T, c *Cgroup) {
	t.Helper()
	child, err := startIn(c, "/bin/sh", []string{"sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := child.Wait(); err != nil {
		t.Fatal(err)
	}
}
