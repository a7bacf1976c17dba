package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process of the node, other than the daemon.
type Process struct {
	PID     int
	Command string
	start   string
}

// kill ends exactly this process, and waits until it is gone.
func (p Process) kill() {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if startTime(p.PID) != p.start {
		return
	}
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
}

// Alive tells whether the process has not ended.
func (p Process) Alive() bool { return startTime(p.PID) == p.start && !zombie(p.PID) }

// Kill9 ends the process and returns the moment before it did.
func (p Process) Kill9() time.Time {
	t := time.Now()
	p.kill()
	return t
}

func zombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	s := string(data)
	return strings.HasPrefix(s[strings.LastIndexByte(s, ')')+1:], " Z")
}

// processes finds what belongs to the node: every process that is in its network namespace, or that has a file of its
// folder open, in its arguments, or as working directory. The daemon and the test itself are left out.
func (n *Node) processes() []Process {
	inode := n.ns.inode()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var found []Process
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() || n.daemon != nil && pid == n.daemon.pid() || zombie(pid) {
			continue
		}
		if ns, _ := os.Readlink(dir + "/ns/net"); (inode != "" && ns == inode) || n.uses(dir) {
			argv, _ := os.ReadFile(dir + "/cmdline")
			found = append(found, Process{PID: pid, start: startTime(pid),
				Command: strings.ReplaceAll(strings.TrimRight(string(argv), "\x00"), "\x00", " ")})
		}
	}
	return found
}

// uses tells whether the process refers to the node's folder.
func (n *Node) uses(proc string) bool {
	if argv, _ := os.ReadFile(proc + "/cmdline"); strings.Contains(string(argv), n.Dir+"/") {
		return true
	}
	links, _ := filepath.Glob(proc + "/fd/*")
	for _, l := range append(links, proc+"/cwd") {
		if target, _ := os.Readlink(l); strings.HasPrefix(target, n.Dir+"/") {
			return true
		}
	}
	return false
}

// QEMUs returns the node's QEMU processes.
func (n *Node) QEMUs() []Process {
	var found []Process
	for _, p := range n.processes() {
		if strings.Contains(filepath.Base(strings.Fields(p.Command + " ?")[0]), "qemu-system") {
			found = append(found, p)
		}
	}
	return found
}
