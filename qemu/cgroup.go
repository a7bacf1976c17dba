package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Cgroup is the control group of one machine: one directory in each hierarchy
// that the host has, whether that is the single one of cgroup v2, the several of
// v1, or both side by side. It is a name and holds nothing open; its methods may
// be called concurrently, and by any process.
type Cgroup struct {
	path string
	dirs []cgroupDir
	// keeper is a unit of systemd's, see keeperOf; "" is none.
	keeper string
}

// cgroupDir is a Cgroup's directory in one hierarchy.
type cgroupDir struct {
	hierarchy
	path string
}

// CgroupPath joins a pod's cgroup parent, as a container runtime is told it, and
// a name of one's own. A parent of the systemd form "a-b.slice" is expanded to
// "/a.slice/a-b.slice"; any other is a path already.
func CgroupPath(parent, name string) string {
	slice := strings.TrimPrefix(parent, "/")
	if !strings.HasSuffix(slice, ".slice") || strings.Contains(slice, "/") {
		return filepath.Join("/", parent, name)
	}
	path := "/"
	if slice != "-.slice" {
		for i, c := range strings.TrimSuffix(slice, ".slice") + "-" {
			if c == '-' {
				path = filepath.Join(path, slice[:i]+".slice")
			}
		}
	}
	return filepath.Join(path, name)
}

// CreateCgroup makes the control group with that absolute path, parents included,
// in every hierarchy, and limits it; r may be nil. One that is there already is
// taken over. Parents that a v2 hierarchy needs to hand the controllers down are
// told to, and systemd is, where one of its slices is the parent. On an error
// nothing stays that was made here, save parents.
//
// Of r the sections Memory, CPU, Pids, HugepageLimits and Unified are applied, with
// the meaning of the OCI runtime specification; Devices is not, and the others
// are refused.
func CreateCgroup(path string, r *specs.LinuxResources) (*Cgroup, error) {
	hs, err := knownHierarchies()
	if err != nil {
		return nil, err
	}
	keeper := keeperOf(hs, path)
	if keeper != "" {
		if err := startKeeper(keeper, path); err != nil {
			return nil, fmt.Errorf("qemu: create cgroup %s: %w", path, err)
		}
	}
	c, err := createCgroup(hs, path, r)
	if err != nil {
		if keeper != "" {
			err = errors.Join(err, stopKeeper(keeper))
		}
		return nil, err
	}
	c.keeper = keeper
	return c, nil
}

func createCgroup(hs []hierarchy, path string, r *specs.LinuxResources) (*Cgroup, error) {
	c, err := newCgroup(hs, path)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, d := range c.dirs {
		existed := exists(d.path)
		if err = d.create(path); err != nil {
			break
		}
		if !existed {
			made = append(made, d.path)
		}
	}
	if err == nil {
		err = c.Update(r)
	}
	if err != nil {
		for _, dir := range made {
			os.Remove(dir)
		}
		return nil, fmt.Errorf("qemu: create cgroup %s: %w", path, err)
	}
	return c, nil
}

// LoadCgroup finds the control group with that absolute path, in the hierarchies
// that have it. The error wraps fs.ErrNotExist when none has.
func LoadCgroup(path string) (*Cgroup, error) {
	hs, err := knownHierarchies()
	if err != nil {
		return nil, err
	}
	c, err := loadCgroup(hs, path)
	if err == nil {
		c.keeper = keeperOf(hs, path)
	}
	return c, err
}

func loadCgroup(hs []hierarchy, path string) (*Cgroup, error) {
	c, err := newCgroup(hs, path)
	if err != nil {
		return nil, err
	}
	c.dirs = slices.DeleteFunc(c.dirs, func(d cgroupDir) bool { return !exists(d.path) })
	if len(c.dirs) == 0 {
		return nil, fmt.Errorf("qemu: cgroup %s: %w", path, fs.ErrNotExist)
	}
	return c, nil
}

// newCgroup names the directories, which need not be there.
func newCgroup(hs []hierarchy, path string) (*Cgroup, error) {
	if path == "/" || !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("qemu: cgroup path %q is not accepted: an absolute path below / without . and .. is", path)
	}
	c := &Cgroup{path: path}
	for _, h := range hs {
		c.dirs = append(c.dirs, cgroupDir{h, filepath.Join(h.mount, path)})
	}
	return c, nil
}

// Path is the path below the hierarchies' mount points.
func (c *Cgroup) Path() string { return c.path }

// Update applies limits as CreateCgroup does. What r does not mention stays as
// it is.
func (c *Cgroup) Update(r *specs.LinuxResources) error {
	for _, v2 := range []bool{false, true} {
		settings, err := cgroupSettings(r, v2)
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", c.path, err)
		}
		for _, s := range settings {
			if err := c.apply(s, v2); err != nil {
				return fmt.Errorf("cgroup %s: %w", c.path, err)
			}
		}
	}
	return nil
}

// apply writes one setting where its controller lives, if it lives in a hierarchy
// of that version. The two versions' settings are equivalent, so that one that
// finds no place there has one in the other; if in neither, the v2 turn says so.
func (c *Cgroup) apply(s cgroupSetting, v2 bool) error {
	d, found := c.controller(s.controller)
	switch {
	case found && d.v2() == v2:
		err := writeCgroup(filepath.Join(d.path, s.file), s.value)
		if s.tentative || s.optional && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	case found && s.unified:
		return fmt.Errorf("unified setting %s = %s: this host has the controller %s in cgroup v1", s.file, s.value, s.controller)
	case !found && v2 && !s.optional:
		return fmt.Errorf("%s = %s: this host has no cgroup controller %s here", s.file, s.value, s.controller)
	}
	return nil
}

// controller is the directory in which a controller's files are.
func (c *Cgroup) controller(name string) (cgroupDir, bool) {
	for _, d := range c.dirs {
		if d.has(name) {
			return d, true
		}
	}
	return cgroupDir{}, false
}

// OOMKills is how many processes of the group the kernel has killed for lack of
// memory. (oom_kill of memory.events in v2, of memory.oom_control in v1.)
func (c *Cgroup) OOMKills() (uint64, error) {
	d, found := c.controller("memory")
	if !found {
		return 0, fmt.Errorf("cgroup %s: OOM kills: there is no memory controller", c.path)
	}
	file := "memory.oom_control"
	if d.v2() {
		file = "memory.events"
	}
	text, err := os.ReadFile(filepath.Join(d.path, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, found := strings.CutPrefix(line, "oom_kill "); found {
			return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: there is no line oom_kill", filepath.Join(d.path, file))
}

// Procs are the ids of the processes in the group, in any hierarchy, sorted.
func (c *Cgroup) Procs() ([]int, error) {
	var pids []int
	for _, d := range c.dirs {
		text, err := os.ReadFile(filepath.Join(d.path, "cgroup.procs"))
		if err != nil && !gone(err) {
			return nil, err
		}
		for _, word := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return nil, fmt.Errorf("%s/cgroup.procs: %w", d.path, err)
			}
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// writeCgroup writes a control file, in one write, and never makes one.
func writeCgroup(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("%s = %q: %w", path, value, errors.Unwrap(err))
	}
	return nil
}
