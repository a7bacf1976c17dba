package qemu

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCgroupPath(t *testing.T) {
	for _, c := range [][3]string{
		{"/kubepods/burstable/pod1", "vm", "/kubepods/burstable/pod1/vm"},
		{"kubepods/pod1", "vm", "/kubepods/pod1/vm"},
		{"", "vm", "/vm"},
		{"kubepods-burstable-pod1_2.slice", "vm", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/vm"},
		{"/kubepods-pod1.slice", "vm", "/kubepods.slice/kubepods-pod1.slice/vm"},
		{"kubepods.slice", "vm", "/kubepods.slice/vm"},
		{"-.slice", "vm", "/vm"},
		{"/kubepods.slice/kubepods-pod1.slice", "vm", "/kubepods.slice/kubepods-pod1.slice/vm"},
	} {
		if got := CgroupPath(c[0], c[1]); got != c[2] {
			t.Errorf("%q, %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestParseHierarchies(t *testing.T) {
	got, err := parseHierarchies(strings.NewReader(`23 1 254:0 / / rw - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
33 31 0:31 /docker/1 /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
42 31 0:38 / /other\040mount rw,relatime - cgroup2 cgroup2 rw
`))
	want := []hierarchy{
		{"/sys/fs/cgroup/cpu,cpuacct", []string{"rw", "cpu", "cpuacct"}},
		{"/sys/fs/cgroup/systemd", []string{"rw", "name=systemd"}},
		{"/sys/fs/cgroup/unified", nil},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func ptr[T any](v T) *T { return &v }

// allLimits has a value for everything that is applied.
func allLimits() *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: ptr(int64(1 << 30)), Swap: ptr(int64(3 << 30)), Reservation: ptr(int64(1 << 29))},
		CPU:            &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(150000)), Period: ptr(uint64(100000)), Cpus: "0-1", Mems: "0"},
		Pids:           &specs.LinuxPids{Limit: ptr(int64(200))},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 1 << 21}, {Pagesize: "1GB"}},
	}
}

func TestCgroupSettings(t *testing.T) {
	none := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(-1)), Swap: ptr(int64(-1))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(-1))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))},
	}
	zero := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(0)), Swap: ptr(int64(0)), Reservation: ptr(int64(0))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(0)), Quota: ptr(int64(0)), Period: ptr(uint64(0))}, Pids: &specs.LinuxPids{Limit: ptr(int64(0))},
	}
	cases := []struct {
		name string
		r    *specs.LinuxResources
		v2   bool
		want string
	}{
		{"v1", allLimits(), false, "memory.limit_in_bytes=1073741824? memory.memsw.limit_in_bytes=3221225472? memory.limit_in_bytes=1073741824 " +
			"memory.soft_limit_in_bytes=536870912 cpu.shares=1024 cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 cpuset.cpus=0-1 cpuset.mems=0 " +
			"pids.max=200 hugetlb.2MB.limit_in_bytes=2097152 hugetlb.1GB.limit_in_bytes=0?"},
		{"v2", allLimits(), true, "memory.oom.group=1? memory.swap.max=2147483648? memory.max=1073741824 memory.low=536870912 " +
			"cpu.weight=39 cpu.max=150000|100000 cpuset.cpus=0-1 cpuset.mems=0 pids.max=200 hugetlb.2MB.max=2097152 hugetlb.1GB.max=0?"},
		{"v1, unlimited", none, false, "memory.limit_in_bytes=-1? memory.memsw.limit_in_bytes=-1? memory.limit_in_bytes=-1 cpu.cfs_quota_us=-1 pids.max=max"},
		{"v2, unlimited", none, true, "memory.oom.group=1? memory.swap.max=max? memory.max=max cpu.max=max pids.max=max"},
		{"v1, not said", zero, false, ""},
		{"v2, not said", zero, true, "memory.oom.group=1?"},
		{"v2, period", &specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(50000))}}, true, "memory.oom.group=1? cpu.max=max|50000"},
		{"v2, no swap", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(5)), Swap: ptr(int64(5))}}, true, "memory.oom.group=1? memory.swap.max=0? memory.max=5"},
		{"v2, unified", &specs.LinuxResources{Unified: map[string]string{"memory.low": "3", "memory.high": "4"}}, true, "memory.oom.group=1? memory.high=4! memory.low=3!"},
		{"nothing", nil, false, ""},
	}
	for _, c := range cases {
		settings, err := cgroupSettings(c.r, c.v2)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		var got []string
		for _, s := range settings {
			text := s.file + "=" + strings.ReplaceAll(s.value, " ", "|")
			if s.optional || s.tentative {
				text += "?"
			}
			if s.unified {
				text += "!"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, strings.Join(got, " "), c.want)
		}
	}
}

func TestCPUWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{1: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := cpuWeight(shares); got != want {
			t.Errorf("%d shares are weight %d, want %d", shares, got, want)
		}
	}
}

func TestRefusedLimits(t *testing.T) {
	for name, r := range map[string]*specs.LinuxResources{
		"block I/O": {BlockIO: &specs.LinuxBlockIO{}},
		"../x.y":    {Unified: map[string]string{"../x.y": "1"}},
		"memory":    {Unified: map[string]string{"memory": "1"}},
		"cgroup.":   {Unified: map[string]string{"cgroup.procs": "1"}},
	} {
		if _, err := cgroupSettings(r, true); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fakeV2 is what a directory of cgroup v2 looks like. The files of children have
// to be there before: a plain file system makes none.
func fakeV2(t *testing.T, groups ...string) []hierarchy {
	t.Helper()
	root := t.TempDir()
	for _, g := range append(groups, "") {
		dir := filepath.Join(root, g)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"cgroup.controllers": "cpuset cpu io memory hugetlb pids\n", "cgroup.subtree_control": "cpu memory\n", "cgroup.procs": "",
			"memory.max": "", "memory.swap.max": "", "memory.low": "", "memory.oom.group": "", "memory.events": "low 0\noom 2\noom_kill 1\n", "memory.high": "",
			"cpu.weight": "", "cpu.max": "", "cpuset.cpus": "", "cpuset.mems": "", "pids.max": "", "hugetlb.2MB.max": "",
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []hierarchy{{mount: root}}
}

func readCgroup(t *testing.T, dir, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Version 2 on files that only look like it: that the right ones are written.
func TestCgroupV2(t *testing.T) {
	hs := fakeV2(t, "pod", "pod/vm")
	c, err := createCgroup(hs, "/pod/vm", allLimits())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(hs[0].mount, "pod/vm")
	for file, want := range map[string]string{
		"memory.max": "1073741824", "memory.swap.max": "2147483648", "memory.oom.group": "1", "cpu.weight": "39", "cpu.max": "150000 100000",
		"pids.max": "200", "cpuset.cpus": "0-1", "hugetlb.2MB.max": "2097152",
	} {
		if got := readCgroup(t, dir, file); got != want {
			t.Errorf("%s has %q, want %q", file, got, want)
		}
	}
	// A plain file keeps the last write at its beginning.
	if got := readCgroup(t, filepath.Dir(dir), "cgroup.subtree_control"); !strings.HasPrefix(got, "+pids") {
		t.Errorf("the parent hands down %q", got)
	}
	if n, err := c.OOMKills(); err != nil || n != 1 {
		t.Errorf("%d OOM kills, %v", n, err)
	}
	if err := c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(2 << 30))}}); err != nil || readCgroup(t, dir, "memory.max") != "2147483648" {
		t.Errorf("update: %v", err)
	}
	if err := c.Update(&specs.LinuxResources{Unified: map[string]string{"memory.high": "77"}}); err != nil || readCgroup(t, dir, "memory.high") != "77" {
		t.Errorf("unified: %v", err)
	}
	for want, r := range map[string]*specs.LinuxResources{
		"controller rdma": {Unified: map[string]string{"rdma.max": "1"}},
		"memory.none":     {Unified: map[string]string{"memory.none": "1"}},
	} {
		if err := c.Update(r); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/pod/vm") {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What fails leaves no group, but no parent's group goes either.
func TestCreateCgroupFails(t *testing.T) {
	hs := fakeV2(t, "pod")
	_, err := createCgroup(hs, "/pod/vm", allLimits())
	if err == nil || !strings.Contains(err.Error(), "/pod/vm") {
		t.Errorf("error %v", err)
	}
	if exists(filepath.Join(hs[0].mount, "pod/vm")) || !exists(filepath.Join(hs[0].mount, "pod")) {
		t.Error("not undone")
	}
}

func TestCgroupPathRefused(t *testing.T) {
	hs := fakeV2(t)
	for _, path := range []string{"", "/", "vm", "/../vm", "/a/", "/a//b", "/a/./b"} {
		if _, err := createCgroup(hs, path, nil); err == nil || !strings.Contains(err.Error(), "absolute") {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestLoadCgroup(t *testing.T) {
	hs := append(fakeV2(t, "a", "a/vm"), hierarchy{t.TempDir(), []string{"rw", "memory"}})
	c, err := loadCgroup(hs, "/a/vm")
	if err != nil || len(c.dirs) != 1 || c.Path() != "/a/vm" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := loadCgroup(hs, "/a/other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestDeleteCgroupTwice(t *testing.T) {
	root := t.TempDir()
	c, err := newCgroup([]hierarchy{{mount: root}}, "/vm")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(c.dirs[0].path, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if exists(c.dirs[0].path) {
		t.Error("it is still there")
	}
}
