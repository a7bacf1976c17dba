package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const mib = 1 << 20

// What kubelet asks for is in the cgroup, with QEMU in it; the limit has room for QEMU beside all of the guest's RAM; and
// config.json tells it all.
func TestResources(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	dir := hostDir(t, n, "shared", nil)
	vm := n.NewVM(t, "limited", func(vm *node.VM) {
		vm.Config.Mounts = []*runtimeapi.Mount{{ContainerPath: "/data", HostPath: dir, Readonly: true}}
		vm.Config.Linux.Resources = &runtimeapi.LinuxContainerResources{
			MemoryLimitInBytes: 96 * mib, CpuShares: 512, CpuQuota: 150000, CpuPeriod: 100000, CpusetCpus: "0", CpusetMems: "0",
			HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}},
		}
	})
	vm.Run(t)
	// 48 MiB, 8 MiB for a processor, a 512th of the RAM, and the translation buffer of an emulated machine.
	limit := int64(96*mib + 48*mib + 8*mib + 96*mib/512 + 64*mib)
	for _, c := range []struct{ v1, v2, want1, want2 string }{
		{"memory.limit_in_bytes", "memory.max", fmt.Sprint(limit), fmt.Sprint(limit)},
		{"cpu.shares", "cpu.weight", "512", "20"},
		{"cpu.cfs_quota_us", "cpu.max", "150000", "150000 100000"},
		{"cpuset.cpus", "", "0", "0"},
		{"cpuset.mems", "", "0", "0"},
	} {
		if got := cgroupValue(t, n, c.v1, c.v2); got != c.want1 && got != c.want2 {
			t.Errorf("%s (%s) is %q", c.v1, c.v2, got)
		}
	}
	if procs := cgroupValue(t, n, "cgroup.procs"); procs != fmt.Sprint(n.QEMUs()[0].PID) {
		t.Errorf("in the cgroup are %q, QEMU is %v", procs, n.QEMUs())
	}
	checkConfigJSON(t, vm, dir, limit)

	vm.WaitReady(t)
	vm.Attach(t).Command("mount -t tmpfs -o size=100M fill /tmp; dd if=/dev/zero of=/tmp/fill bs=1M count=40 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches")
	peak, err := strconv.ParseInt(cgroupValue(t, n, "memory.max_usage_in_bytes", "memory.peak"), 10, 64)
	check(t, err)
	t.Logf("peak of %d MiB, guest's RAM of 96 MiB, limit of %d MiB", peak/mib, limit/mib)
	if peak > limit*95/100 {
		t.Errorf("a peak of %d bytes comes close to the limit of %d", peak, limit)
	}
	vm.Stop(t, 30)
	vm.Remove(t)
	n.NoLeaks(t)
}

func checkConfigJSON(t *testing.T, vm *node.VM, dir string, limit int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vm.Node.Dir, "state/pods", vm.Pod.Metadata.Uid, "*", "config.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("config.json: %v, %v", files, err)
	}
	raw, err := os.ReadFile(files[0])
	check(t, err)
	var got struct {
		OCIVersion, Hostname string
		Mounts               []struct {
			Destination, Type, Source string
			Options                   []string
		}
		Linux struct {
			CgroupsPath string
			Namespaces  []struct{ Type, Path string }
			Resources   struct {
				Memory struct{ Limit int64 }
				CPU    struct {
					Shares, Period uint64
					Quota          int64
					Cpus           string
				}
			}
		}
		VM struct {
			Hypervisor struct {
				Path       string
				Parameters []string
			}
			Image    struct{ Path, Format string }
			HWConfig struct {
				VCPUs  int
				Memory int64
			}
		}
	}
	check(t, json.Unmarshal(raw, &got))
	if got.OCIVersion == "" || got.Hostname != "limited" || len(got.Linux.Namespaces) != 1 || got.Linux.Namespaces[0].Type != "network" {
		t.Errorf("config.json: version, hostname or namespaces: %+v", got)
	}
	if _, err := os.Stat(got.Linux.Namespaces[0].Path); err != nil {
		t.Errorf("config.json: network namespace: %v", err)
	}
	if r := got.Linux.Resources; r.Memory.Limit != limit || r.CPU.Shares != 512 || r.CPU.Quota != 150000 || r.CPU.Period != 100000 || r.CPU.Cpus != "0" {
		t.Errorf("config.json: resources %+v", r)
	}
	if m := got.Mounts; len(m) != 1 || m[0].Destination != "/data" || m[0].Type != "9p" || m[0].Source != dir || !strings.Contains(strings.Join(m[0].Options, ","), ",ro") {
		t.Errorf("config.json: mounts %+v", m)
	}
	if !strings.HasPrefix(got.Linux.CgroupsPath, vm.Pod.Linux.CgroupParent) || !strings.HasSuffix(got.VM.Image.Path, "root.qcow2") || got.VM.Image.Format != "qcow2" {
		t.Errorf("config.json: cgroup %s, image %+v", got.Linux.CgroupsPath, got.VM.Image)
	}
	if h := got.VM.HWConfig; h.VCPUs != 1 || h.Memory != 96*mib || len(got.VM.Hypervisor.Parameters) < 10 {
		t.Errorf("config.json: hardware %+v, %d arguments", h, len(got.VM.Hypervisor.Parameters))
	}
}

// A guest's RAM lies in huge pages if its pod asks for them and the node has them.
func TestHugePages(t *testing.T) {
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "huge", func(vm *node.VM) {
		vm.Config.Linux.Resources = &runtimeapi.LinuxContainerResources{HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "1GB"}, {PageSize: "2MB", Limit: 128 * mib}}}
	})
	check(t, vm.TrySandbox(seconds(t, 60)))
	check(t, vm.TryCreate(seconds(t, 60)))
	err := vm.TryStart(seconds(t, 60))
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("code of %v", err)
	}
	mentions(t, fmt.Sprint(err), "hugepages", "takes 64 huge pages of 2048 KiB", "free on this node")

	const file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	before, err := os.ReadFile(file)
	check(t, err)
	have, err := strconv.Atoi(strings.TrimSpace(string(before)))
	check(t, err)
	t.Cleanup(func() { os.WriteFile(file, before, 0) })
	if err := os.WriteFile(file, []byte(strconv.Itoa(have+64)), 0); err != nil {
		t.Skip("no huge pages can be had:", err)
	}
	if now, _ := os.ReadFile(file); strings.TrimSpace(string(now)) != strconv.Itoa(have+64) {
		t.Skipf("the kernel found %s of %d huge pages in its memory", now, have+64)
	}
	vm.Config.Metadata.Attempt = 1
	check(t, vm.TryCreate(seconds(t, 60)))
	check(t, vm.TryStart(seconds(t, 60)))
	vm.WaitReady(t)
	matches(t, "the guest's memory", vm.WaitLog(t, `@@GUEST mem kb=[0-9]+`, node.BootLimit)[0], `kb=(9|1[0-2])[0-9]{4}$`)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", n.QEMUs()[0].PID))
	check(t, err)
	_, ram, found := strings.Cut(string(maps), "/memfd:memory-backend-memfd")
	if !found {
		t.Fatal("QEMU has no huge pages mapped")
	}
	mentions(t, ram[:min(len(ram), 300)], "Size:             131072 kB", "KernelPageSize:     2048 kB")
	vm.Stop(t, 30)
	vm.Remove(t)
	n.NoLeaks(t)
}
