package qemu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// cgroupSetting is a value for a control file.
type cgroupSetting struct {
	controller, file, value string
	// optional settings are left out where the kernel lacks the file.
	optional bool
	// tentative settings come once more, when another has made room for them.
	tentative bool
	// unified settings are asked for by v2's name and mean nothing to v1.
	unified bool
}

// cgroupSettings translates OCI limits to control files of one cgroup version.
// The order matters: a quota is checked against the period, the sum of memory
// and swap against that of memory.
func cgroupSettings(r *specs.LinuxResources, v2 bool) ([]cgroupSetting, error) {
	var s cgroupSettingList
	if v2 {
		// QEMU is one process of many threads; killed in part it is of no use,
		// and neither are helpers without it.
		s.add("memory", "memory.oom.group", "1").optional = true
	}
	if r == nil {
		return s, nil
	}
	if r.BlockIO != nil || r.Network != nil || len(r.Rdma) > 0 {
		return nil, errors.New("limits on block I/O, network priority and RDMA are not supported; memory, cpu, pids, hugepages and unified are")
	}
	s.memory(r.Memory, v2)
	s.cpu(r.CPU, v2)
	s.pids(r.Pids)
	s.hugepages(r.HugepageLimits, v2)
	return s, s.unified(r.Unified, v2)
}

type cgroupSettingList []cgroupSetting

func (s *cgroupSettingList) add(controller, file, value string) *cgroupSetting {
	*s = append(*s, cgroupSetting{controller: controller, file: file, value: value})
	return &(*s)[len(*s)-1]
}

func (s *cgroupSettingList) memory(m *specs.LinuxMemory, v2 bool) {
	if m == nil {
		return
	}
	limit, low := "memory.limit_in_bytes", "memory.soft_limit_in_bytes"
	if v2 {
		limit, low = "memory.max", "memory.low"
	}
	limited, swap := m.Limit != nil && *m.Limit != 0, m.Swap != nil && *m.Swap != 0
	if limited && swap && !v2 {
		// v1 keeps the limit below the one with swap at every moment: it has to
		// be first when both shrink, and last when both grow.
		s.add("memory", limit, orMax(*m.Limit, v2)).tentative = true
	}
	if swap {
		s.swap(m, v2)
	}
	if limited {
		s.add("memory", limit, orMax(*m.Limit, v2))
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		s.add("memory", low, orMax(*m.Reservation, v2))
	}
}

// swap limits memory and swap together, as OCI has it and v1 too; v2 counts swap
// alone. A kernel without swap accounting lacks the files.
func (s *cgroupSettingList) swap(m *specs.LinuxMemory, v2 bool) {
	switch {
	case !v2:
		s.add("memory", "memory.memsw.limit_in_bytes", orMax(*m.Swap, v2)).optional = true
	case *m.Swap < 0 || m.Limit == nil:
		s.add("memory", "memory.swap.max", orMax(*m.Swap, v2)).optional = true
	default:
		s.add("memory", "memory.swap.max", orMax(max(*m.Swap-*m.Limit, 0), v2)).optional = true
	}
}

func (s *cgroupSettingList) cpu(c *specs.LinuxCPU, v2 bool) {
	if c == nil {
		return
	}
	if c.Shares != nil && *c.Shares != 0 {
		if v2 {
			s.add("cpu", "cpu.weight", strconv.FormatUint(cpuWeight(*c.Shares), 10))
		} else {
			s.add("cpu", "cpu.shares", strconv.FormatUint(*c.Shares, 10))
		}
	}
	s.cpuQuota(c, v2)
	if c.Cpus != "" {
		s.add("cpuset", "cpuset.cpus", c.Cpus)
	}
	if c.Mems != "" {
		s.add("cpuset", "cpuset.mems", c.Mems)
	}
}

func (s *cgroupSettingList) cpuQuota(c *specs.LinuxCPU, v2 bool) {
	period := c.Period != nil && *c.Period != 0
	quota := c.Quota != nil && *c.Quota != 0
	if v2 {
		if quota || period {
			s.add("cpu", "cpu.max", cpuMax(c, quota, period))
		}
		return
	}
	if period {
		s.add("cpu", "cpu.cfs_period_us", strconv.FormatUint(*c.Period, 10))
	}
	if quota {
		s.add("cpu", "cpu.cfs_quota_us", strconv.FormatInt(*c.Quota, 10))
	}
}

// cpuMax is quota and period in v2's one file, where no quota means no limit.
func cpuMax(c *specs.LinuxCPU, quota, period bool) string {
	text := "max"
	if quota {
		text = orMax(*c.Quota, true)
	}
	if period {
		text += " " + strconv.FormatUint(*c.Period, 10)
	}
	return text
}

// cpuWeight maps v1's range of shares, 2 to 262144, to v2's of weights, 1 to
// 10000, linearly as Kubernetes does (KEP-2254).
func cpuWeight(shares uint64) uint64 {
	return 1 + (min(max(shares, 2), 262144)-2)*9999/262142
}

func (s *cgroupSettingList) pids(p *specs.LinuxPids) {
	if p != nil && p.Limit != nil && *p.Limit != 0 {
		s.add("pids", "pids.max", orMax(*p.Limit, true))
	}
}

func (s *cgroupSettingList) hugepages(limits []specs.LinuxHugepageLimit, v2 bool) {
	file := "limit_in_bytes"
	if v2 {
		file = "max"
	}
	for _, l := range limits {
		// Kubernetes sends a zero for every page size of the node.
		s.add("hugetlb", "hugetlb."+l.Pagesize+"."+file, strconv.FormatUint(l.Limit, 10)).optional = l.Limit == 0
	}
}

// unified settings are v2's own, by file name.
func (s *cgroupSettingList) unified(files map[string]string, v2 bool) error {
	for _, file := range slices.Sorted(maps.Keys(files)) {
		controller, _, found := strings.Cut(file, ".")
		if !found || strings.Contains(file, "/") || controller == "cgroup" {
			return fmt.Errorf("unified setting %q is not accepted: a controller's file, such as memory.high, is", file)
		}
		if v2 {
			s.add(controller, file, files[file]).unified = true
		}
	}
	return nil
}

// orMax is a limit's text. Negative means none: "max", or -1 in most files of v1.
func orMax(n int64, word bool) string {
	if n < 0 {
		return map[bool]string{true: "max", false: "-1"}[word]
	}
	return strconv.FormatInt(n, 10)
}
