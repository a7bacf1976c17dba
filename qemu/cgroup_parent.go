package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// RaiseParent raises the memory limit of the group's parent to that many bytes,
// provided that it is from bytes now: one that somebody else has set for a
// purpose of his own stays. It tells whether it did. Where systemd keeps the
// parent, a slice, it is systemd that is told, or its next reload would undo it.
//
// kubelet gives a pod's cgroup the sum of the limits of its containers and of
// the RuntimeClass's overhead. Without such an overhead QEMU itself has no room
// there beside a guest that uses all of its RAM.
func (c *Cgroup) RaiseParent(ctx context.Context, from, to int64) (bool, error) {
	d, found := c.controller("memory")
	if !found {
		return false, nil
	}
	dir, file, property := filepath.Dir(d.path), "memory.limit_in_bytes", "MemoryLimit"
	if d.v2() {
		file, property = "memory.max", "MemoryMax"
	}
	file = filepath.Join(dir, file)
	now, err := strconv.ParseInt(strings.Join(words(file), ""), 10, 64)
	if err != nil || now >= to || now != pageFloor(from) {
		return false, nil // "max" in v2, or not what kubelet has set
	}
	if slice := filepath.Base(dir); strings.HasSuffix(slice, ".slice") && exists(systemdRuntime) {
		return true, setSliceProperty(ctx, slice, fmt.Sprintf("%s=%d", property, to))
	}
	return true, writeCgroup(file, strconv.FormatInt(to, 10))
}

// pageFloor is what the kernel keeps of a limit.
func pageFloor(n int64) int64 { return n - n%int64(os.Getpagesize()) }

// setSliceProperty changes a limit for as long as the host runs.
func setSliceProperty(ctx context.Context, slice, property string) error {
	out, err := exec.CommandContext(ctx, "systemctl", "set-property", "--runtime", slice, property).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl set-property --runtime %s %s: %w: %s", slice, property, err, strings.TrimSpace(string(out)))
	}
	return nil
}
