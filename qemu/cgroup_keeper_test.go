package qemu

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKeeperName(t *testing.T) {
	v2, bare := hierarchy{mount: t.TempDir()}, hierarchy{mount: t.TempDir()}
	v1 := hierarchy{mount: t.TempDir(), options: []string{"memory"}}
	if err := os.WriteFile(filepath.Join(v2.mount, "cgroup.controllers"), []byte("cpu memory\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const keeper = "kubepods-pod1_2-qemulet_ab.slice"
	for _, c := range []struct {
		name   string
		hosts  []hierarchy
		parent string
		want   string
	}{
		{"a pod's slice", []hierarchy{v2}, "kubepods-pod1_2.slice", keeper},
		{"a directory", []hierarchy{v2}, "/kubepods/pod1_2", ""},
		{"no parent", []hierarchy{v2}, "", ""},
		{"the root slice", []hierarchy{v2}, "-.slice", ""},
		{"controllers of v1", []hierarchy{v1, bare}, "kubepods-pod1_2.slice", ""},
	} {
		if got := keeperName(c.hosts, CgroupPath(c.parent, "qemulet-ab")); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
