package vmpod

import (
	"reflect"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// container is the one container of a pod, as kubelet sends it.
func container() *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "main", Attempt: 3},
		Image:    &runtimeapi.ImageSpec{Image: "sha256:abc", UserSpecifiedImage: "virtlet.cloud/cirros"},
		Envs:     []*runtimeapi.KeyValue{{Key: "A", Value: []byte("1")}, {Key: "my.var-x", Value: []byte("two words")}},
		Mounts: []*runtimeapi.Mount{
			{ContainerPath: "/etc/hosts", HostPath: "/var/lib/kubelet/pods/x/etc-hosts"},
			{ContainerPath: "/dev/termination-log", HostPath: "/var/lib/kubelet/pods/x/log"},
			{ContainerPath: "/var/run/secrets/kubernetes.io/serviceaccount", HostPath: "/var/lib/kubelet/pods/x/volumes/kubernetes.io~projected/t", Readonly: true},
		},
		Annotations: map[string]string{"io.kubernetes.pod.terminationGracePeriod": "30"},
		Tty:         true,
		Stdin:       true,
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources: &runtimeapi.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 512 << 20, OomScoreAdj: 900,
				HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}}},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{}},
		},
	}
}

func TestParse(t *testing.T) {
	vm, err := Parse(sandbox(map[string]string{"VirtletVCPUCount": "2"}), container())
	if err != nil {
		t.Fatal(err)
	}
	vm.limits = nil
	pod, _ := ParseSandbox(sandbox(map[string]string{"VirtletVCPUCount": "2"}))
	want := &VM{
		Pod: *pod, ContainerName: "main", ContainerAttempt: 3,
		UUID: PodUUID(pod.UID), Image: "sha256:abc", UserImage: "virtlet.cloud/cirros", MemoryBytes: 512 << 20,
		Env: []EnvVar{{"A", "1"}, {"my.var-x", "two words"}}, TTY: true, Stdin: true, GracePeriod: 30 * time.Second, OOMScoreAdj: 900,
	}
	want.Mounts = []Mount{
		{"/etc/hosts", "/var/lib/kubelet/pods/x/etc-hosts", false},
		{"/dev/termination-log", "/var/lib/kubelet/pods/x/log", false},
		{"/var/run/secrets/kubernetes.io/serviceaccount", "/var/lib/kubelet/pods/x/volumes/kubernetes.io~projected/t", true},
	}
	if !reflect.DeepEqual(vm, want) {
		t.Errorf("got  %+v\nwant %+v", vm, want)
	}
}

// The UUID that Virtlet derived, so that machines keep theirs. (RFC 9562 gives
// the algorithm; this value is from Python's uuid.uuid5.)
func TestUUID(t *testing.T) {
	vm, err := Parse(sandbox(nil), container())
	if err != nil || vm.UUID != wantPodUUID {
		t.Errorf("got %s, %v; want %s", vm.UUID, err, wantPodUUID)
	}
	vm, err = Parse(sandbox(map[string]string{"VirtletSystemUUID": "53008994-44C0-4017-AD44-9C49758083DA"}), container())
	if err != nil || vm.UUID != "53008994-44c0-4017-ad44-9c49758083da" {
		t.Errorf("got %+v, %v", vm, err)
	}
}

func TestMemory(t *testing.T) {
	for _, c := range []struct {
		limit, want int64
		note        bool
	}{
		{0, 1 << 30, false},
		{-1, 1 << 30, false},
		{16 << 20, 16 << 20, false},
		{512 << 20, 512 << 20, false},
		{512000000, 488 << 20, true},
		{128<<20 + 1, 128 << 20, true},
	} {
		cfg := container()
		cfg.Linux.Resources.MemoryLimitInBytes = c.limit
		vm, err := Parse(sandbox(nil), cfg)
		if err != nil || vm.MemoryBytes != c.want || strings.Contains(strings.Join(vm.Notes, "\n"), "memory limit") != c.note {
			t.Errorf("limit %d: got %+v, %v; want %d", c.limit, vm, err, c.want)
		}
	}
	vm, err := Parse(sandbox(nil), &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "i"}})
	if err != nil || vm.MemoryBytes != DefaultMemory {
		t.Errorf("no linux section: %+v, %v", vm, err)
	}
}

func TestOverhead(t *testing.T) {
	for _, c := range []struct {
		vcpus  int
		mem    int64
		accel  string
		tbSize int
		want   int64
	}{
		{1, 1 << 30, "kvm", 0, (48 + 8 + 2) << 20},
		{4, 8 << 30, "kvm", 64, (48 + 32 + 16) << 20},
		{1, 1 << 30, "tcg", 0, (48 + 8 + 2 + 64) << 20},
		{1, 1 << 30, "tcg", 256, (48 + 8 + 2 + 256) << 20},
	} {
		if got := Overhead(c.vcpus, c.mem, c.accel, c.tbSize); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

const wantPodUUID = "998a0a22-d9ea-56c2-ac8b-ae008e811b2a"

// kubelet's limit for the pod has to leave room for QEMU.
func TestOverheadNote(t *testing.T) {
	for _, c := range []struct {
		limit, overhead int64
		want            string
	}{
		{0, 0, ""},
		{512 << 20, 0, "an overhead of 57Mi"},
		{512 << 20, 20 << 20, "an overhead of 57Mi"},
		{512 << 20, 57 << 20, ""},
		{1 << 30, 0, ""},
	} {
		pod, cfg := sandbox(nil), container()
		pod.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: c.limit}
		pod.Linux.Overhead = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: c.overhead}
		cfg.Mounts = nil
		vm, err := Parse(pod, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(vm.Notes, ""); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("limit %d, overhead %d: got %q, want %q", c.limit, c.overhead, got, c.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestResources(t *testing.T) {
	cfg := container()
	r := cfg.Linux.Resources
	r.CpusetCpus, r.MemorySwapLimitInBytes = "0-1", 512<<20
	r.Unified = map[string]string{"memory.high": "1", "memory.min": "2", "memory.swap.max": "0", "memory.oom.group": "1"}
	vm, err := Parse(sandbox(nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	limit := int64(512<<20) + Overhead(1, 512<<20, "tcg", 64)
	want := &specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0-1"},
		Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit},
		// As sent; that QEMU gets none is nothing that it needs.
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}},
		Unified:        map[string]string{"memory.min": "2", "memory.oom.group": "1"},
	}
	if got := vm.Resources("tcg", 64); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := CgroupResources(nil, 0); !reflect.DeepEqual(got, &specs.LinuxResources{}) {
		t.Errorf("nothing: got %+v", got)
	}
	if got := CgroupResources(&runtimeapi.LinuxContainerResources{CpuQuota: -1, MemoryLimitInBytes: 5}, 0); *got.CPU.Quota != -1 || got.Memory != nil {
		t.Errorf("lifted quota: got %+v", got)
	}
}

func TestContainerRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*runtimeapi.ContainerConfig)
		want string
	}{
		"no name":       {func(c *runtimeapi.ContainerConfig) { c.Metadata = nil }, "container metadata.name: is missing"},
		"no image":      {func(c *runtimeapi.ContainerConfig) { c.Image = nil }, "image.image: is missing"},
		"little memory": {func(c *runtimeapi.ContainerConfig) { c.Linux.Resources.MemoryLimitInBytes = 4 << 20 }, `resources.limits.memory = "4194304": too little`},
		"few hugepages": {func(c *runtimeapi.ContainerConfig) { c.Linux.Resources.HugepageLimits[0].Limit = 1 << 21 }, `resources.limits.hugepages-2MB = "2097152": is less than the guest's RAM of 536870912 bytes`},
		"one hugepage": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.Resources.MemoryLimitInBytes = 0
			c.Linux.Resources.HugepageLimits[0].Limit = 1 << 21
		}, `resources.limits.hugepages-2MB = "2097152": too little for a virtual machine`},
		"broken hugepage": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.Resources.MemoryLimitInBytes = 1025 << 20
			c.Linux.Resources.HugepageLimits[0].Limit = 2 << 30
		}, `the guest's RAM of 1074790400 bytes is no multiple of 2MB`},
		"two page sizes": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.Resources.HugepageLimits = []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 1 << 30}, {PageSize: "1GB", Limit: 1 << 30}}
		}, `resources.limits.hugepages-1GB = "1073741824": is a second page size beside 2MB`},
		"odd page size": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.Resources.HugepageLimits = []*runtimeapi.HugepageLimit{{PageSize: "3MB", Limit: 1 << 30}}
		}, `resources.limits.hugepages-3MB = "1073741824": the page size is no power of two`},
		"CDI": {func(c *runtimeapi.ContainerConfig) { c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "v/c=d"}} }, "CDI_devices[0].name"},
		"group alone": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 5}
		}, "securityContext.runAsGroup"},
		"env name":       {func(c *runtimeapi.ContainerConfig) { c.Envs[0].Key = "A\nB" }, `envs[0].key = "A\nB"`},
		"env name empty": {func(c *runtimeapi.ContainerConfig) { c.Envs[0].Key = "" }, "envs[0].key"},
		"env zero byte":  {func(c *runtimeapi.ContainerConfig) { c.Envs[1].Value = []byte("se\x00cret") }, "envs[1].value: the value of my.var-x has a zero byte"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := container()
			c.edit(cfg)
			_, err := Parse(sandbox(nil), cfg)
			if problems := mustFail(t, err); len(problems) != 1 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	_, err := Parse(nil, nil)
	if n := len(mustFail(t, err)); n != 5 {
		t.Errorf("nothing at all: %d problems: %v", n, err)
	}
}

// The sandbox's problems and the container's come in one message.
func TestProblemsOfBoth(t *testing.T) {
	cfg := container()
	cfg.Image = nil
	_, err := Parse(sandbox(map[string]string{"VirtletDiskDriver": "x"}), cfg)
	if n := len(mustFail(t, err)); n != 2 {
		t.Errorf("got %v", err)
	}
}

func TestContainerNotes(t *testing.T) {
	cfg := container()
	cfg.Mounts = nil
	cfg.Command, cfg.Args, cfg.WorkingDir, cfg.StopSignal = []string{"x"}, []string{"y"}, "/", runtimeapi.Signal_SIGINT
	s := cfg.Linux.SecurityContext
	s.Privileged, s.ReadonlyRootfs, s.RunAsUser = true, true, &runtimeapi.Int64Value{Value: 1}
	s.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"NET_ADMIN"}}
	s.SupplementalGroups = []int64{5}
	vm, err := Parse(sandbox(nil), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"command, args, workingDir, lifecycle.stopSignal: no effect on a virtual machine, which boots what is on its disk and is stopped by its power button",
		"securityContext: no effect on a virtual machine: privileged, capabilities, runAsUser, supplementalGroups, readOnlyRootFilesystem",
	}
	if !reflect.DeepEqual(vm.Notes, want) {
		t.Errorf("got %q, want %q", vm.Notes, want)
	}
}

func FuzzEnv(f *testing.F) {
	f.Add("A", []byte("1"))
	f.Add("", []byte("\x00"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		cfg := container()
		cfg.Envs = []*runtimeapi.KeyValue{{Key: key, Value: value}}
		vm, err := Parse(sandbox(nil), cfg)
		if err != nil {
			mustFail(t, err)
			return
		}
		if len(vm.Env) != 1 || strings.ContainsAny(vm.Env[0].Name, "=\n\x00") {
			t.Fatalf("accepted: %+v", vm.Env)
		}
	})
}

func TestHugePages(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		memory    int64
		limits    []*runtimeapi.HugepageLimit
		ram, page int64
	}{
		"none asked for":     {gib, []*runtimeapi.HugepageLimit{{PageSize: "2MB"}, {PageSize: "1GB"}}, gib, 0},
		"as the memory":      {gib, []*runtimeapi.HugepageLimit{{PageSize: "1GB"}, {PageSize: "2MB", Limit: gib}}, gib, 2 << 20},
		"more than memory":   {gib, []*runtimeapi.HugepageLimit{{PageSize: "1GB", Limit: 4 * gib}}, gib, gib},
		"no memory limit":    {0, []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 3 * gib}}, 3 * gib, 2 << 20},
		"small pages of ARM": {gib, []*runtimeapi.HugepageLimit{{PageSize: "64KB", Limit: gib}}, gib, 64 << 10},
	} {
		cfg := container()
		cfg.Linux.Resources.MemoryLimitInBytes, cfg.Linux.Resources.HugepageLimits = c.memory, c.limits
		vm, err := Parse(sandbox(nil), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if vm.MemoryBytes != c.ram || vm.HugePageBytes != c.page {
			t.Errorf("%s: RAM of %d in pages of %d, want %d and %d", name, vm.MemoryBytes, vm.HugePageBytes, c.ram, c.page)
		}
		got := vm.Resources("tcg", 0).HugepageLimits
		for i, l := range c.limits {
			if got[i] != (specs.LinuxHugepageLimit{Pagesize: l.PageSize, Limit: l.Limit}) {
				t.Errorf("%s: the cgroup's limit is %+v, want %v", name, got[i], l)
			}
		}
	}
}

func FuzzPageBytes(f *testing.F) {
	for _, s := range []string{"2MB", "1GB", "64KB", "", "0MB", "3MB", "999999GB", "2Mi", "-2MB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := pageBytes(s); ok && (n <= 0 || n&(n-1) != 0) {
			t.Errorf("%q: %d", s, n)
		}
	})
}
