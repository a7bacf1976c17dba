package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hostCgroup makes a control group on this host, of its own parent, that goes with
// the test.
func hostCgroup(t testing.TB, hs []hierarchy, r *specs.LinuxResources) *Cgroup {
	t.Helper()
	parent := fmt.Sprintf("/qemulet-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	c, err := createCgroup(hs, parent+"/vm", r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
		for _, d := range c.dirs {
			if err := os.Remove(filepath.Dir(d.path)); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func hostHierarchies(t testing.TB) []hierarchy {
	t.Helper()
	hs, err := mountedHierarchies()
	if err != nil {
		t.Fatalf("cgroups are needed: %v", err)
	}
	return hs
}

// wantMember checks where a process is: in the group, in each of its hierarchies,
// and in no other of those.
func wantMember(t *testing.T, c *Cgroup, pid int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), ":"+c.Path()+"\n"); n != len(c.dirs) {
		t.Errorf("in %d of %d hierarchies:\n%s", n, len(c.dirs), text)
	}
	if pids, err := c.Procs(); err != nil || !slices.Equal(pids, []int{pid}) {
		t.Errorf("the group has %v, %v, want %d alone", pids, err, pid)
	}
}

// A machine is in its group from the beginning, with all its threads, and no thread
// of ours stays behind.
func TestBornInCgroup(t *testing.T) {
	noLeaks(t)
	c := hostCgroup(t, hostHierarchies(t), &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(1 << 30))}, CPU: &specs.LinuxCPU{Shares: ptr(uint64(512))}, Pids: &specs.LinuxPids{Limit: ptr(int64(100))},
	})
	v := newVM(t, guestIgnores)
	v.o.Cgroup = c
	m := v.start(t)
	wantMember(t, c, m.id.PID)
	for _, d := range c.dirs {
		wantThreads(t, d, m.id.PID)
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	wantEnding(t, ended(t, m), Killed, 137, "")
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// wantThreads checks that a group has the threads of that process only.
func wantThreads(t *testing.T, d cgroupDir, pid int) {
	t.Helper()
	file := "tasks"
	if d.v2() {
		file = "cgroup.threads"
	}
	// Our own thread that has gone in is ending.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		var strangers []string
		for _, tid := range words(filepath.Join(d.path, file)) {
			if !exists(fmt.Sprintf("/proc/%d/task/%s", pid, tid)) {
				strangers = append(strangers, tid)
			}
		}
		if len(strangers) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s has threads %v of others", d.path, strangers)
			return
		}
	}
}

// Into v2 the kernel clones. This host may have it without controllers, which does
// not matter here.
func TestCloneIntoCgroup(t *testing.T) {
	hs := slices.DeleteFunc(hostHierarchies(t), func(h hierarchy) bool { return !h.v2() })
	if len(hs) == 0 {
		t.Fatal("a mounted cgroup2 is needed")
	}
	c := hostCgroup(t, hs, nil)
	child, err := startIn(c, "/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{}})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Kill()
	wantMember(t, c, child.Pid)
}

// The limits arrive, grow and shrink.
func TestHostLimits(t *testing.T) {
	c := hostCgroup(t, hostHierarchies(t), allHostLimits(1<<30))
	for _, limit := range []int64{2 << 30, 1 << 29, 1 << 30} {
		if err := c.Update(allHostLimits(limit)); err != nil {
			t.Fatal(err)
		}
		d, _ := c.controller("memory")
		file := map[bool]string{false: "memory.limit_in_bytes", true: "memory.max"}[d.v2()]
		if got := words(filepath.Join(d.path, file)); !slices.Equal(got, []string{strconv.FormatInt(limit, 10)}) {
			t.Errorf("%s: %v, want %d", file, got, limit)
		}
	}
	if n, err := c.OOMKills(); err != nil || n != 0 {
		t.Errorf("%d OOM kills, %v", n, err)
	}
}

func allHostLimits(memory int64) *specs.LinuxResources {
	r := allLimits()
	r.HugepageLimits = nil
	r.Memory.Limit, r.Memory.Swap = &memory, &memory
	r.CPU.Cpus = ""
	return r
}

// Groups that are there already are taken over.
func TestCreateCgroupAgain(t *testing.T) {
	hs := hostHierarchies(t)
	c := hostCgroup(t, hs, nil)
	if _, err := createCgroup(hs, c.Path(), allHostLimits(1<<30)); err != nil {
		t.Error(err)
	}
	loaded, err := loadCgroup(hs, c.Path())
	if err != nil || len(loaded.dirs) != len(c.dirs) {
		t.Errorf("%+v, %v", loaded, err)
	}
	if err := loaded.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := loadCgroup(hs, c.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// Delete kills whoever is left, in whichever hierarchy.
func TestDeleteCgroupKills(t *testing.T) {
	noLeaks(t)
	c := hostCgroup(t, hostHierarchies(t), nil)
	for range 3 {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
		for _, d := range c.dirs[:1+len(c.dirs)/2] {
			if err := writeCgroup(filepath.Join(d.path, "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := c.Delete(ctx); err != nil {
		t.Fatal(err)
	}
}

// A guest that takes what the limit does not give ends its machine, and the reason
// is known.
func TestOOMKilled(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestEatsMemory)
	v.inv.Args[slices.Index(v.inv.Args, "64")] = "512"
	v.o.Cgroup = hostCgroup(t, hostHierarchies(t), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(128 << 20)), Swap: ptr(int64(128 << 20))}})
	m := v.cont(t)
	wantEnding(t, ended(t, m), OOMKilled, 137, "lack of memory")
	if n, err := v.o.Cgroup.OOMKills(); err != nil || n == 0 {
		t.Errorf("%d OOM kills, %v", n, err)
	}
}

// So it is for one that dies before it is ready.
func TestOOMKilledAtStart(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestIgnores)
	v.o.Cgroup = hostCgroup(t, hostHierarchies(t), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4 << 20)), Swap: ptr(int64(4 << 20))}})
	m, err := Start(t.Context(), v.inv, v.o)
	if err == nil {
		destroy(m)
		t.Fatal("it started")
	}
	if !strings.Contains(err.Error(), "lack of memory") {
		t.Error(err)
	}
}

// A group that is gone is an error of the start.
func TestStartWithoutCgroup(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestIgnores)
	c := hostCgroup(t, hostHierarchies(t), nil)
	if err := c.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.o.Cgroup = c
	if m, err := Start(t.Context(), v.inv, v.o); err == nil {
		destroy(m)
		t.Error("it started")
	}
}
