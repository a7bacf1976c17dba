package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// statsByCrictl looks at what a running VM uses, and changes what it may.
func statsByCrictl(t *testing.T, vm *node.VM) {
	n := vm.Node
	var got runtimeapi.ListContainerStatsResponse
	list, err := n.Runtime.ListContainerStats(t.Context(), &runtimeapi.ListContainerStatsRequest{})
	check(t, err)
	got.Stats = list.Stats
	if len(got.Stats) != 1 {
		t.Fatalf("stats: %v", list)
	}
	s := got.Stats[0]
	if s.GetCpu().GetUsageCoreNanoSeconds().GetValue() < 100e6 || s.GetMemory().GetWorkingSetBytes().GetValue() < 50<<20 || s.GetWritableLayer().GetUsedBytes().GetValue() == 0 {
		t.Errorf("a guest that has booted used %v", s)
	}
	pods, err := n.Runtime.ListPodSandboxStats(t.Context(), &runtimeapi.ListPodSandboxStatsRequest{})
	check(t, err)
	if nic := pods.GetStats()[0].GetLinux().GetNetwork().GetDefaultInterface(); nic.GetName() != "eth0" || nic.GetTxBytes().GetValue() == 0 || nic.GetRxBytes().GetValue() == 0 {
		t.Errorf("a guest that has its address has sent and got packets: %v", pods)
	}
	mentions(t, n.Crictl(t, "stats"), vm.ID[:13], "vm")
	mentions(t, n.Crictl(t, "statsp"), "life")

	n.Crictl(t, "update", "--cpu-share", "321", "--cpu-period", "100000", "--cpu-quota", "70000", vm.ID)
	limits := vm.Status(t).GetResources().GetLinux()
	if limits.GetCpuShares() != 321 || limits.GetCpuQuota() != 70000 || limits.GetMemoryLimitInBytes() == 0 {
		t.Errorf("limits after the update: %v", limits)
	}
	if quota := cgroupValue(t, n, "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(quota, "70000") {
		t.Errorf("the cgroup's quota: %q", quota)
	}
	mentions(t, n.CrictlFails(t, "update", "--memory", "8589934592", vm.ID), "memory limit 8589934592", "bytes of RAM")
}

// cgroupValue reads a control file of the node's one VM, by its name in either
// version of cgroups.
func cgroupValue(t *testing.T, n *node.Node, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, mount := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup"} {
			found, _ := filepath.Glob(filepath.Join(mount, n.CgroupParent(), "*", "qemulet-*", name))
			shallow, _ := filepath.Glob(filepath.Join(mount, n.CgroupParent(), "qemulet-*", name))
			for _, path := range append(found, shallow...) {
				raw, err := os.ReadFile(path)
				check(t, err)
				return strings.TrimSpace(string(raw))
			}
		}
	}
	t.Fatalf("no cgroup of the node has any of %v", names)
	return ""
}
