package vmpod

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const mib = int64(1) << 20

const (
	// MemoryStep is the granularity of a guest's RAM. A memory limit is
	// rounded down to it, so that a guest never has more than its limit. It is
	// what QEMU takes on every machine type, and what the DIMMs that a guest
	// sees are counted in.
	MemoryStep = mib
	// DefaultMemory is the RAM of a guest whose container has no memory limit.
	DefaultMemory = 1024 * mib
	// MinMemory is the least RAM with which firmware gets as far as a boot loader.
	MinMemory = 16 * mib
)

// Overhead is the memory in bytes that QEMU needs beside mem bytes of guest
// RAM: its own code, heap and device state, a share per virtual processor, the
// page tables and bookkeeping for the RAM, and under TCG (accel "tcg") the
// translation buffer of tbSizeMiB (64 when 0).
//
//	48 MiB + 8 MiB per virtual processor + RAM/512 [+ translation buffer]
func Overhead(vcpus int, mem int64, accel string, tbSizeMiB int) int64 {
	n := 48*mib + 8*mib*int64(vcpus) + mem/512
	if accel == "tcg" {
		if tbSizeMiB <= 0 {
			tbSizeMiB = 64
		}
		n += int64(tbSizeMiB) * mib
	}
	return n
}

// displayOverhead is what a VGA card needs on top: its memory (16 MiB), the VNC
// server's copy of it, and what is encoded for clients.
const displayOverhead = 48 * mib

// Overhead is the function of this name for all that the VM has.
func (v *VM) Overhead(accel string, tbSizeMiB int) int64 {
	n := Overhead(v.VCPUs, v.MemoryBytes, accel, tbSizeMiB)
	if v.Display {
		n += displayOverhead
	}
	return n
}

// Resources are the limits for the cgroup that QEMU is born in: the CPU's as
// kubelet sent them, since they bound all of QEMU, however many virtual
// processors it has; and the guest's RAM with Overhead on top as the limit of
// memory, so that a guest may use all the RAM it was promised.
func (v *VM) Resources(accel string, tbSizeMiB int) *specs.LinuxResources {
	return CgroupResources(v.limits, v.MemoryBytes+v.Overhead(accel, tbSizeMiB))
}

// CgroupResources turns CRI's limits into those of a cgroup, with memoryLimit
// bytes in place of the memory limit in r (0 leaves memory alone). Fields that
// are zero in r are left out. r may be nil.
func CgroupResources(r *runtimeapi.LinuxContainerResources, memoryLimit int64) *specs.LinuxResources {
	return &specs.LinuxResources{
		CPU:            cpuResources(r),
		Memory:         memoryResources(r, memoryLimit),
		HugepageLimits: hugePageLimits(r),
		Unified:        unified(r.GetUnified()),
	}
}

func cpuResources(r *runtimeapi.LinuxContainerResources) *specs.LinuxCPU {
	cpu := &specs.LinuxCPU{Cpus: r.GetCpusetCpus(), Mems: r.GetCpusetMems()}
	if n := r.GetCpuShares(); n > 0 {
		shares := uint64(n)
		cpu.Shares = &shares
	}
	// A negative quota means "no limit" and is sent when one is lifted.
	if n := r.GetCpuQuota(); n != 0 {
		cpu.Quota = &n
	}
	if n := r.GetCpuPeriod(); n > 0 {
		period := uint64(n)
		cpu.Period = &period
	}
	if *cpu == (specs.LinuxCPU{}) {
		return nil
	}
	return cpu
}

func memoryResources(r *runtimeapi.LinuxContainerResources, limit int64) *specs.LinuxMemory {
	if limit <= 0 {
		return nil
	}
	mem := &specs.LinuxMemory{Limit: &limit}
	// CRI's swap limit counts memory and swap together; what it allows beyond
	// the memory limit stays the same.
	if swap, of := r.GetMemorySwapLimitInBytes(), r.GetMemoryLimitInBytes(); swap > 0 && of > 0 && swap >= of {
		total := swap - of + limit
		mem.Swap = &total
	}
	return mem
}

// unified drops the memory limits that kubelet computed from a container's
// limit: they would throttle a guest that uses the RAM it was promised.
func unified(sent map[string]string) map[string]string {
	kept := map[string]string{}
	for key, value := range sent {
		if key == "memory.max" || key == "memory.high" || strings.HasPrefix(key, "memory.swap.") {
			continue
		}
		kept[key] = value
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}
