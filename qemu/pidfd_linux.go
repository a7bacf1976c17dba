package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// process is one process for good: its number may be given to another one when it
// is dead, its pidfd never is. Nothing here acts on a number. Only a pidfd that the
// runtime's poller watches is held, so that waiting costs no thread.
type process struct {
	pid   int
	pidfd *os.File
}

// exitStatus is how a process ended, in so far as it is known.
type exitStatus struct {
	known  bool
	signal syscall.Signal // that killed it, or 0
	code   int            // that it exited with
}

// String says it as a shell user would.
func (s exitStatus) String() string {
	switch {
	case !s.known:
		return "exit status unknown"
	case s.signal != 0:
		return fmt.Sprintf("killed by signal %d (%s)", int(s.signal), unix.SignalName(s.signal))
	}
	return fmt.Sprintf("exit status %d", s.code)
}

// newProcess takes over a pidfd.
func newProcess(pid, pidfd int) (*process, error) {
	if err := unix.SetNonblock(pidfd, true); err != nil {
		unix.Close(pidfd)
		return nil, fmt.Errorf("pidfd of process %d: %w", pid, err)
	}
	return &process{pid: pid, pidfd: os.NewFile(uintptr(pidfd), "pidfd")}, nil
}

// openProcess pins the process that has this number now. The error wraps ESRCH
// when none has.
func openProcess(pid int) (*process, error) {
	if pid <= 1 {
		return nil, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return newProcess(pid, fd)
}

// wait returns nil when the process is dead, os.ErrClosed after close, and
// os.ErrDeadlineExceeded after the pidfd's deadline.
func (p *process) wait() error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool { return pollFD(fd, unix.POLLIN, 0)&unix.POLLIN != 0 })
}

// waitContext is wait that ends with ctx too.
func (p *process) waitContext(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return context.Cause(ctx)
}

// dead tells whether it is, without waiting.
func (p *process) dead() bool {
	dead := false
	p.control(func(fd uintptr) error {
		dead = pollFD(fd, unix.POLLIN, 0)&unix.POLLIN != 0
		return nil
	})
	return dead
}

// kill sends SIGKILL; a process that is dead already is no error.
func (p *process) kill() error {
	err := p.control(func(fd uintptr) error { return unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// reap collects the dead process if it is a child of this one, which it may be even
// if it was found by its number. Its status is unknown otherwise.
func (p *process) reap() exitStatus { return p.ask(reap) }

// exit is how the dead process ended, if the kernel tells others than its parent.
func (p *process) exit() exitStatus { return p.ask(askExit) }

func (p *process) ask(question func(fd uintptr) exitStatus) exitStatus {
	var s exitStatus
	p.control(func(fd uintptr) error {
		s = question(fd)
		return nil
	})
	return s
}

func (p *process) close() error { return p.pidfd.Close() }

// control is the one way to the descriptor's number. Its error is os.ErrClosed
// after close.
func (p *process) control(do func(fd uintptr) error) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = do(fd) }); err != nil {
		return err
	}
	return result
}

// pollFD is poll(2) on one descriptor. Of a pidfd, POLLIN says that the process is
// dead, and POLLHUP, on newer kernels, that it is reaped as well.
func pollFD(fd uintptr, events int16, limit time.Duration) int16 {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		if _, err := unix.Poll(fds, int(limit.Milliseconds())); err != unix.EINTR {
			return fds[0].Revents
		}
	}
}

// siginfo is siginfo_t of waitid(2) on 64-bit Linux.
type siginfo struct {
	_      [2]int32
	code   int32
	_      int32
	_, _   int32 // pid, uid
	status int32
	_      [100]byte
}

// reap is waitid(2); ECHILD says that it is another's child, or reaped.
func reap(fd uintptr) exitStatus {
	var info siginfo
	for {
		err := unix.Waitid(unix.P_PIDFD, int(fd), (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || info.code == 0 {
			return exitStatus{}
		}
		break
	}
	const exited = 1 // CLD_EXITED
	if info.code == exited {
		return exitStatus{known: true, code: int(info.status)}
	}
	return exitStatus{known: true, signal: syscall.Signal(info.status)}
}

// reapTime bounds the wait for the new parent of an orphan, usually init, to reap
// it: only then does the kernel tell others how it ended.
const reapTime = 100 * time.Millisecond

// askExit asks how a dead process ended that is no child of ours. Kernels before
// Linux 6.15 do not know (PIDFD_INFO_EXIT).
func askExit(fd uintptr) exitStatus {
	info, ok := pidfdInfo(fd)
	if ok && info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		pollFD(fd, 0, reapTime) // for POLLHUP, which needs no asking for
		info, ok = pidfdInfo(fd)
	}
	if !ok || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return exitStatus{}
	}
	ws := syscall.WaitStatus(info.Exit_code)
	if ws.Signaled() {
		return exitStatus{known: true, signal: ws.Signal()}
	}
	return exitStatus{known: true, code: ws.ExitStatus()}
}

// pidfdInfo is false where the kernel lacks the question, too.
func pidfdInfo(fd uintptr) (unix.PidfdInfo, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.PIDFD_GET_INFO, uintptr(unsafe.Pointer(&info)))
	return info, errno == 0
}
