package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity tells one QEMU process from all others that this host has run or will
// run. A caller records it after Start and hands it to Adopt.
type Identity struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/<pid>/stat: clock ticks since boot.
	StartTime uint64 `json:"startTime"`
	// UUID of the machine, which stands in the process's arguments.
	UUID string `json:"uuid"`
	// BootID is that of /proc/sys/kernel/random/boot_id.
	BootID string `json:"bootID"`
}

// String names the process for people.
func (id Identity) String() string { return fmt.Sprintf("process %d of machine %s", id.PID, id.UUID) }

// procfs is where /proc is mounted.
type procfs string

const hostProc procfs = "/proc"

// bootID changes with every boot of the host.
func (p procfs) bootID() (string, error) {
	text, err := os.ReadFile(filepath.Join(string(p), "sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(text)), err
}

// startTime reads when a process started, by proc_pid_stat(5).
func (p procfs) startTime(pid int) (uint64, error) {
	text, err := os.ReadFile(p.path(pid, "stat"))
	if err != nil {
		return 0, err
	}
	return parseStartTime(text)
}

// parseStartTime finds field 22. Field 2 is the command in brackets, which may
// itself have blanks and brackets in it.
func parseStartTime(stat []byte) (uint64, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const first, wanted = 3, 22
	if len(fields) <= wanted-first {
		return 0, fmt.Errorf("%q has no field %d", stat, wanted)
	}
	return strconv.ParseUint(fields[wanted-first], 10, 64)
}

// hasArg tells whether a process was started with that argument.
func (p procfs) hasArg(pid int, arg string) (bool, error) {
	text, err := os.ReadFile(p.path(pid, "cmdline"))
	return slices.Contains(strings.Split(string(text), "\x00"), arg), err
}

func (p procfs) path(pid int, file string) string {
	return filepath.Join(string(p), strconv.Itoa(pid), file)
}

// identify is the identity of a process that is pinned, and so can be looked at
// by number.
func (p procfs) identify(pid int, uuid string) (Identity, error) {
	id := Identity{PID: pid, UUID: uuid}
	var err error
	if id.BootID, err = p.bootID(); err != nil {
		return id, err
	}
	id.StartTime, err = p.startTime(pid)
	return id, err
}

// find pins the process with that identity. The error wraps ErrGone when it is not
// there any more, however much another one looks like it.
func (p procfs) find(id Identity) (*process, error) {
	boot, err := p.bootID()
	if err != nil {
		return nil, err
	}
	if boot != id.BootID {
		return nil, fmt.Errorf("%w: %v: the host has rebooted since", ErrGone, id)
	}
	proc, err := openProcess(id.PID)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("%w: %v", ErrGone, id)
	}
	if err != nil {
		return nil, err
	}
	if err := p.verify(proc, id); err != nil {
		proc.close()
		return nil, err
	}
	return proc, nil
}

// verify compares a pinned process. What /proc says of the number is about that
// process only if it was alive after it was said.
func (p procfs) verify(proc *process, id Identity) error {
	started, err := p.startTime(id.PID)
	var marked bool
	if err == nil {
		marked, err = p.hasArg(id.PID, id.UUID)
	}
	switch {
	case proc.dead(), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return fmt.Errorf("%w: %v", ErrGone, id)
	case err != nil:
		return err
	case started != id.StartTime:
		return fmt.Errorf("%w: %v: another process, which started at tick %d instead of %d, has its number", ErrGone, id, started, id.StartTime)
	case !marked:
		return fmt.Errorf("%w: %v: a process without that UUID in its arguments has its number", ErrGone, id)
	}
	return nil
}
