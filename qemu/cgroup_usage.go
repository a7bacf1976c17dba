package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// CgroupUsage is what the processes of a control group have used.
type CgroupUsage struct {
	// CPU time of all threads, since the group was made.
	CPU time.Duration
	// Memory is what is charged to the group, in bytes: the guest's RAM as far
	// as it was touched, QEMU's own, and the page cache of its files.
	Memory int64
	// WorkingSet is Memory without the page cache that can go at once.
	WorkingSet int64
	// RSS is anonymous and shared memory: guest RAM and QEMU's own.
	RSS int64
	// Swap in bytes.
	Swap int64
	// PageFaults, and of those the ones that had to read from a disk.
	PageFaults, MajorPageFaults uint64
	// OOMKills is how many processes the kernel has killed for lack of memory.
	OOMKills uint64
	// Processes is how many there are in the group.
	Processes int
	// Throttled is for how long the group's quota kept it from running.
	Throttled time.Duration
}

// Usage reads the group's counters, which asks no process: a machine that
// hangs does not delay it. What the host's hierarchies do not count is 0. The
// error wraps fs.ErrNotExist when the group is gone.
func (c *Cgroup) Usage() (CgroupUsage, error) {
	var u CgroupUsage
	err := errors.Join(c.cpuUsage(&u), c.memoryUsage(&u))
	if err != nil {
		return CgroupUsage{}, fmt.Errorf("cgroup %s: usage: %w", c.path, err)
	}
	if _, counted := c.controller("memory"); counted {
		if u.OOMKills, err = c.OOMKills(); err != nil {
			return u, err
		}
	}
	u.Processes, err = c.countProcesses()
	return u, err
}

// countProcesses looks at one hierarchy: all have the same processes, and each
// makes a list for whoever reads it.
func (c *Cgroup) countProcesses() (int, error) {
	d, found := c.controller("memory")
	if !found {
		d = c.dirs[0]
	}
	text, err := os.ReadFile(filepath.Join(d.path, "cgroup.procs"))
	return bytes.Count(text, []byte("\n")), err
}

func (c *Cgroup) cpuUsage(u *CgroupUsage) error {
	if d, found := c.controller("cpuacct"); found && !d.v2() {
		n, err := readNumber(filepath.Join(d.path, "cpuacct.usage"))
		u.CPU = time.Duration(n)
		if err != nil {
			return err
		}
	}
	d, found := c.controller("cpu")
	if !found {
		return nil
	}
	stat, err := readKeyed(filepath.Join(d.path, "cpu.stat"))
	u.Throttled = time.Duration(stat["throttled_time"])
	if d.v2() {
		u.CPU = time.Duration(stat["usage_usec"]) * time.Microsecond
		u.Throttled = time.Duration(stat["throttled_usec"]) * time.Microsecond
	}
	return err
}

func (c *Cgroup) memoryUsage(u *CgroupUsage) error {
	d, found := c.controller("memory")
	if !found {
		return nil
	}
	total, prefix := "memory.usage_in_bytes", "total_"
	if d.v2() {
		total, prefix = "memory.current", ""
	}
	memory, err := readNumber(filepath.Join(d.path, total))
	if err != nil {
		return err
	}
	stat, err := readKeyed(filepath.Join(d.path, "memory.stat"))
	if err != nil {
		return err
	}
	count := func(key string) int64 { return int64(stat[prefix+key]) }
	u.Memory = int64(memory)
	u.WorkingSet = max(u.Memory-count("inactive_file"), 0)
	u.PageFaults, u.MajorPageFaults = stat[prefix+"pgfault"], stat[prefix+"pgmajfault"]
	if !d.v2() {
		u.RSS, u.Swap = count("rss")+count("shmem"), count("swap")
		return nil
	}
	u.RSS = count("anon") + count("shmem")
	swap, err := readNumber(filepath.Join(d.path, "memory.swap.current"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // a kernel that does not account swap
	}
	u.Swap = int64(swap)
	return err
}

func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// readKeyed reads a file of lines "key number".
func readKeyed(path string) (map[string]uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			all[key] = n
		}
	}
	return all, nil
}
