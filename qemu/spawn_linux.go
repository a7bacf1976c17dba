package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts the program as a session of its own that outlives this process,
// in its cgroup from before its first instruction on. It gets the donated files,
// nothing to read, the log to write to, and no environment but the C locale.
//
// It must not leave a core with the guest's memory in it. Where this process may
// not say so of another user's (CAP_SYS_RESOURCE), its own limit is inherited.
func spawn(inv Invocation, o StartOptions, d *donation, log *os.File) (*process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	pidfd := -1
	attr := &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"LC_ALL=C"},
		Files: append([]*os.File{null, log, log}, d.files...),
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: o.Credential, PidFD: &pidfd},
	}
	child, err := startIn(o.Cgroup, inv.Binary, append([]string{inv.Binary}, inv.Args...), attr)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("QEMU binary %s is missing, or its interpreter: %w", inv.Binary, err)
	}
	if err != nil {
		return nil, err
	}
	if pidfd < 0 {
		child.Kill()
		child.Wait()
		return nil, errors.New("the kernel has no pidfds: Linux 5.4 or newer is needed")
	}
	none := unix.Rlimit{}
	_ = unix.Prlimit(child.Pid, unix.RLIMIT_CORE, &none, nil)
	p, err := newProcess(child.Pid, pidfd)
	if err != nil {
		child.Kill()
		child.Wait()
		return nil, err
	}
	child.Release()
	return p, nil
}

// startIn is os.StartProcess into a cgroup: in v2 the kernel does it
// (CLONE_INTO_CGROUP), in v1 a child is where the thread is that forks it.
func startIn(c *Cgroup, name string, argv []string, attr *os.ProcAttr) (*os.Process, error) {
	if c == nil {
		return os.StartProcess(name, argv, attr)
	}
	var tasks []string
	for _, d := range c.dirs {
		if !d.v2() {
			tasks = append(tasks, filepath.Join(d.path, "tasks"))
			continue
		}
		dir, err := os.Open(d.path)
		if err != nil {
			return nil, fmt.Errorf("cgroup %s: %w", c.path, err)
		}
		defer dir.Close()
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	}
	if len(tasks) == 0 {
		return os.StartProcess(name, argv, attr)
	}
	return startByTasks(tasks, name, argv, attr)
}

// startByTasks starts a process from a thread that has gone into v1 cgroups. The
// thread ends with its goroutine, since that stays locked to it.
func startByTasks(tasks []string, name string, argv []string, attr *os.ProcAttr) (*os.Process, error) {
	type result struct {
		child *os.Process
		err   error
	}
	done := make(chan result, 1)
	go onPassingThread(func() {
		var r result
		for _, file := range tasks {
			// 0 is the writing thread itself, which is the quick case: nobody
			// else's forks have to be held up.
			if r.err = writeCgroup(file, "0"); r.err != nil {
				break
			}
		}
		if r.err == nil {
			r.child, r.err = os.StartProcess(name, argv, attr)
		}
		done <- r
	})
	r := <-done
	return r.child, r.err
}

// onPassingThread calls do on a thread that ends with the calling goroutine. The
// main thread never ends; while a goroutine holds it, another one has another.
func onPassingThread(do func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		do()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		onPassingThread(do)
	}()
	<-done
}
