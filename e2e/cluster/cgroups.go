package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const cgroupfs = "/sys/fs/cgroup"

func (c *Cluster) cgroupRoot() string { return "/" + filepath.Base(c.Dir) }

// controllers are the folders below which a cgroup of the cluster is: one for each controller, or the only one of cgroup v2.
func controllers() []string {
	if _, err := os.Stat(cgroupfs + "/cgroup.procs"); err == nil {
		return []string{cgroupfs}
	}
	dirs, _ := filepath.Glob(cgroupfs + "/*/cgroup.procs")
	for i := range dirs {
		dirs[i] = filepath.Dir(dirs[i])
	}
	return dirs
}

// makeCgroups makes the cgroup below which kubelet puts its pods. cpuset of cgroup v1 does not hand its settings down by itself.
func makeCgroups(root string) error {
	var errs []error
	for _, dir := range controllers() {
		errs = append(errs, os.MkdirAll(dir+root, 0o755))
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				errs = append(errs, os.WriteFile(filepath.Join(dir+root, file), data, 0))
			}
		}
	}
	return errors.Join(errs...)
}

// removeCgroups removes the innermost first. A process that was killed just now may still be on its way out.
func (c *Cluster) removeCgroups() {
	for _, dir := range controllers() {
		var dirs []string
		filepath.WalkDir(dir+c.cgroupRoot(), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			for range 50 {
				if err := os.Remove(d); err == nil || errors.Is(err, os.ErrNotExist) {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}
