package qemu

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// shortRun is a process that answers a question about QEMU or the host, and is
// gone with the question.
type shortRun struct {
	Path       string
	Args       []string
	File       *os.File            // its descriptor 3; taken over
	Credential *syscall.Credential // nil: the caller's user
}

// runEnd is how a shortRun ended.
type runEnd struct {
	State *os.ProcessState
	Said  string // the end of its output
}

// during runs the process for as long as f takes, and then kills it, and all that
// it has started, if it still lives. The error is f's, or why it did not start.
//
// The process dies with the calling one. That signal is tied to the thread that
// started it, hence the lock.
func (r shortRun) during(f func(pid int) error) (runEnd, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, last, err := r.start()
	if err != nil {
		return runEnd{}, err
	}
	err = f(cmd.Process.Pid)
	// Not waited for yet, so that the number still is its own.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait() // killed, most likely: what counts is what f made of it
	return runEnd{State: cmd.ProcessState, Said: last.String()}, err
}

// untilExit runs the process to its end, or until ctx is done.
func (r shortRun) untilExit(ctx context.Context) (runEnd, error) {
	return r.during(func(pid int) error {
		exited := make(chan struct{})
		go func() {
			defer close(exited)
			waitExited(pid)
		}()
		select {
		case <-exited:
		case <-ctx.Done():
			_ = syscall.Kill(pid, syscall.SIGKILL)
			<-exited
		}
		return nil
	})
}

// waitExited waits for the end of a child and leaves it to be reaped.
func waitExited(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// start starts the process, in a process group of its own.
func (r shortRun) start() (*exec.Cmd, *tail, error) {
	defer r.File.Close()
	last := &tail{}
	cmd := exec.Command(r.Path, r.Args...)
	cmd.Stdout, cmd.Stderr = last, last
	cmd.ExtraFiles = []*os.File{r.File}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: r.Credential}
	// A grandchild that has moved out of the group may keep the pipe open.
	cmd.WaitDelay = time.Second
	return cmd, last, cmd.Start()
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 1024

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p[max(0, len(p)-tailSize):]...)
	t.buf = t.buf[max(0, len(t.buf)-tailSize):]
	return len(p), nil
}

// String is the kept text as valid UTF-8 without space around it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(string(bytes.TrimSpace(t.buf)), "?")
}
