package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// first is the first process of the cluster's namespaces. When it is killed the kernel ends everything inside, and undoes the mounts.
type first struct {
	PID   int
	start string
	shell *exec.Cmd // unshare, which waits for it
}

func startFirst(pause string) (*first, error) {
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", pause)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		pid := onlyChild(cmd.Process.Pid)
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(name)) == filepath.Base(pause) {
			return &first{PID: pid, start: startTime(pid), shell: cmd}, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	cmd.Process.Kill()
	return nil, errors.New("unshare did not start the first process of the namespaces")
}

// enter prefixes a command line so that it runs inside.
func (f *first) enter(argv ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(f.PID), "--net", "--mount", "--pid", "--"}, argv...)
}

func (f *first) end() {
	kill(f.PID, f.start)
	if f.shell != nil {
		f.shell.Wait()
	}
}

// kill ends exactly the process that started then, and waits until it is gone.
func kill(pid int, start string) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if startTime(pid) != start {
		return
	}
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
}

// startTime returns the start time of a process in clock ticks after boot, "" if there is none.
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))[19]
}

// onlyChild returns the pid of a process' first child, 0 if it has none.
func onlyChild(pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	children := strings.Fields(string(data))
	if len(children) == 0 {
		return 0
	}
	child, _ := strconv.Atoi(children[0])
	return child
}
