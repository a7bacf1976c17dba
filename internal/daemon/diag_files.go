package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tail is the end of a file.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > diagFile {
		_, _ = f.Seek(-diagFile, io.SeekEnd)
	}
	raw, err := io.ReadAll(io.LimitReader(f, diagFile))
	if err != nil {
		return fmt.Sprintf("%s\nerror: %v\n", raw, err)
	}
	return string(raw)
}

// daemonLog is the journal's, if this daemon writes to it, or the end of the file
// that it writes to.
func daemonLog(ctx context.Context) string {
	if os.Getenv("JOURNAL_STREAM") != "" {
		return program(ctx, "journalctl", "--no-pager", "--output=short-iso-precise", "--lines="+journalLines, "--unit=qemulet.service")
	}
	path, err := os.Readlink("/proc/self/fd/2")
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return "the log goes to " + path + ", from where it cannot be read again\n"
	}
	return tail(path)
}

// cgroupFiles are the numbers of a cgroup, of version 2 and of version 1.
var cgroupFiles = []string{
	"cpu.max", "cpu.stat", "cpu.weight", "cpu.pressure", "cpuset.cpus", "cpuset.cpus.effective",
	"io.stat", "io.pressure",
	"memory.current", "memory.events", "memory.high", "memory.max", "memory.peak", "memory.pressure", "memory.stat", "memory.swap.current", "memory.swap.max",
	"pids.current", "pids.max",
	"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "cpuacct.usage",
	"memory.failcnt", "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control", "memory.usage_in_bytes",
}

// cgroupNumbers are those of a process' cgroups.
func cgroupNumbers(pid int) string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	var b strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(string(raw))); lines.Scan(); {
		_, rest, _ := strings.Cut(lines.Text(), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		writeCgroup(&b, filepath.Join("/sys/fs/cgroup", controllers, path))
	}
	return b.String()
}

func writeCgroup(b *strings.Builder, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // a hierarchy that is mounted elsewhere
	}
	for _, e := range entries {
		if !slices.Contains(cgroupFiles, e.Name()) {
			continue
		}
		if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
			fmt.Fprintf(b, "== %s\n%s", filepath.Join(dir, e.Name()), text)
		}
	}
}
