package node

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// Mark declares the files that are now below the daemon's folders no leaks: its own sockets, its database.
func (n *Node) Mark(tb testing.TB) {
	tb.Helper()
	n.marked = n.files()
}

// Leaks returns everything that virtual machines may have left: processes, network namespaces, links, address leases,
// cgroups, mounts, and files and sockets of the daemon. A pulled image is not a leak; half of one is.
func (n *Node) Leaks() []string {
	var leaks []string
	add := func(kind string, names ...string) {
		for _, name := range names {
			leaks = append(leaks, kind+" "+name)
		}
	}
	for _, p := range n.processes() {
		add("process", fmt.Sprintf("%d %.200s", p.PID, p.Command))
	}
	add("network namespace", children(n.path("netns"))...)
	links, _ := n.ns.links()
	for _, l := range links {
		if l != bridge {
			add("link", l)
		}
	}
	for _, network := range children(n.path("ipam")) {
		for _, lease := range children(n.path("ipam", network)) {
			if !strings.HasPrefix(lease, "last_reserved_ip") && lease != "lock" {
				add("address", network+"/"+lease)
			}
		}
	}
	add("cgroup", n.cgroups()...)
	for _, m := range n.mounts() {
		if !strings.HasPrefix(m, n.path("kubelet")) { // those are kubelet's
			add("mount", m)
		}
	}
	for f := range n.files() {
		if !n.marked[f] {
			add("file", f)
		}
	}
	sort.Strings(leaks)
	return leaks
}

// NoLeaks fails if anything is left. The kernel may need a moment to let go of a namespace's links.
func (n *Node) NoLeaks(tb testing.TB) {
	tb.Helper()
	Eventually(tb, 2*time.Second, func() error {
		if leaks := n.Leaks(); len(leaks) > 0 {
			return fmt.Errorf("left behind:\n  %s", strings.Join(leaks, "\n  "))
		}
		return nil
	})
}

func children(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// files lists all files and sockets below the daemon's two folders, and the folders that belong to pods. What is kept for
// the next start (the cache, the cluster's settings) does not count, and of the images only unfinished downloads do.
func (n *Node) files() map[string]bool {
	found := map[string]bool{}
	for _, top := range []string{"run", "state"} {
		filepath.WalkDir(n.path(top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			rel, _ := filepath.Rel(n.Dir, path)
			switch {
			case rel == "state/cache":
				return filepath.SkipDir
			case rel == "state/cluster-settings.json":
			case strings.HasPrefix(rel, "state/images/"):
				if strings.HasPrefix(d.Name(), "part_") {
					found[rel] = true
				}
			case !d.IsDir(), strings.HasPrefix(rel, "run/vm/"), strings.HasPrefix(rel, "state/pods/"):
				found[rel] = true
			}
			return nil
		})
	}
	return found
}

// cgroups lists what is left below the node's parent cgroup, in every hierarchy: folders of the pods' own are made by
// the one who gives the parent's name, so only what is below those counts.
func (n *Node) cgroups() (found []string) {
	for _, top := range n.cgroupTops() {
		filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && path != top && filepath.Dir(path) != top {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

// cgroupTops are the folders of the node's parent cgroup, one in version 2, one for each controller in version 1.
func (n *Node) cgroupTops() []string {
	one, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.ns.name)
	two, _ := filepath.Glob("/sys/fs/cgroup/" + n.ns.name)
	return append(one, two...)
}

// removeCgroups removes the empty folders, the deepest first.
func (n *Node) removeCgroups() {
	for _, top := range n.cgroupTops() {
		var dirs []string
		filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			os.Remove(dirs[i])
		}
	}
}

// mounts lists mount points in the node's folder, other than the one that may make netns shared, and SmallState's.
func (n *Node) mounts() (found []string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], n.Dir+"/") && fields[4] != n.path("netns") && fields[4] != n.path("state") {
			found = append(found, fields[4])
		}
	}
	return found
}

func (n *Node) removeMounts() {
	points := n.mounts()
	sort.Sort(sort.Reverse(sort.StringSlice(points)))
	for _, p := range append(points, n.path("netns"), n.path("state")) {
		// Not a mount point: umount says so, and that is fine.
		exec.Command("umount", "-l", p).Run()
	}
}
