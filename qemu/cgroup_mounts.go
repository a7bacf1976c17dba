package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// hierarchy is a mounted cgroup hierarchy.
type hierarchy struct {
	mount string
	// options are a v1 hierarchy's controllers and name, nil for v2: what is
	// in use there is asked of its files.
	options []string
}

func (h hierarchy) v2() bool { return h.options == nil }

// knownHierarchies are those that were mounted when they were first asked for.
// They do not change while a host runs, and the table of mounts is long on a
// host with many pods.
var knownHierarchies = sync.OnceValues(mountedHierarchies)

// mountedHierarchies finds where cgroups are, by /proc/self/mountinfo: the v1
// hierarchies first, since a controller that is in one of them is not in v2's.
func mountedHierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("qemu: cgroups: %w", err)
	}
	defer f.Close()
	hs, err := parseHierarchies(f)
	if err == nil && len(hs) == 0 {
		err = errors.New("no hierarchy is mounted: expected cgroup2 on /sys/fs/cgroup")
	}
	if err != nil {
		return nil, fmt.Errorf("qemu: cgroups: %w", err)
	}
	return hs, nil
}

// parseHierarchies reads proc_pid_mountinfo(5). Only whole hierarchies count, and
// of the same one only its first mount.
func parseHierarchies(r io.Reader) ([]hierarchy, error) {
	var v1, v2 []hierarchy
	seen := map[string]bool{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		left, right, _ := strings.Cut(lines.Text(), " - ")
		mount, fs := strings.Fields(left), strings.Fields(right)
		if len(mount) < 5 || len(fs) < 3 || mount[3] != "/" || seen[mount[2]] {
			continue
		}
		h := hierarchy{mount: unescapeMount(mount[4])}
		switch fs[0] {
		case "cgroup2":
			v2 = append(v2, h)
		case "cgroup":
			h.options = strings.Split(fs[2], ",")
			v1 = append(v1, h)
		default:
			continue
		}
		seen[mount[2]] = true
	}
	return append(v1, v2...), lines.Err()
}

// unescapeMount undoes what the kernel does to blanks in a mount point.
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// has tells whether a controller's files are in the directory.
func (d cgroupDir) has(controller string) bool {
	if !d.v2() {
		return slices.Contains(d.options, controller)
	}
	return slices.Contains(words(filepath.Join(d.path, "cgroup.controllers")), controller)
}

// create makes the directory and those above it, ready for processes.
func (d cgroupDir) create(path string) error {
	dir := d.mount
	for _, name := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		if d.v2() {
			handDown(dir)
		}
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if slices.Contains(d.options, "cpuset") {
			if err := inheritCPUSet(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// usedControllers are the controllers of v2 that limits of ours are about.
var usedControllers = [...]string{"cpu", "cpuset", "hugetlb", "memory", "pids"}

// handDown makes a v2 directory's controllers those of its children too, one by
// one, as far as it can: one that is missing in the end is noticed, and named, by
// who needs it.
func handDown(dir string) {
	available, enabled := words(filepath.Join(dir, "cgroup.controllers")), words(filepath.Join(dir, "cgroup.subtree_control"))
	for _, c := range usedControllers {
		if slices.Contains(available, c) && !slices.Contains(enabled, c) {
			_ = writeCgroup(filepath.Join(dir, "cgroup.subtree_control"), "+"+c)
		}
	}
}

// inheritCPUSet gives a new v1 cpuset what its parent has: none takes a process
// before it has processors and memory nodes.
func inheritCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if len(words(filepath.Join(dir, file))) > 0 {
			continue
		}
		value := strings.Join(words(filepath.Join(filepath.Dir(dir), file)), "")
		if err := writeCgroup(filepath.Join(dir, file), value); err != nil {
			return err
		}
	}
	return nil
}

// words are the words of a control file, none if it cannot be read.
func words(path string) []string {
	text, _ := os.ReadFile(path)
	return strings.Fields(string(text))
}
