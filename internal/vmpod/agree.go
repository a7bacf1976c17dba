package vmpod

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// agree checks what several annotations have to agree on.
func (s *Settings) agree(bad *problems) {
	if s.CPU == nil || bad.about(VCPUCountAnnotation) {
		return
	}
	if t := s.CPU.Topology; t != nil && t.Sockets*t.Cores*t.Threads != s.VCPUs {
		n := t.Sockets * t.Cores * t.Threads
		bad.key(CPUSettingAnnotation, "Topology", fmt.Sprintf("%d sockets of %d cores of %d threads", t.Sockets, t.Cores, t.Threads),
			fmt.Sprintf("are %d virtual processors, but %s is %d", n, VCPUCountAnnotation, s.VCPUs), s.topologyAccepted(n))
	}
	s.agreeNUMA(bad)
}

func (s *Settings) topologyAccepted(n int) string {
	accepted := fmt.Sprintf("numbers whose product is %d", s.VCPUs)
	if n <= maxVCPUs {
		accepted += fmt.Sprintf("; or %s: %q", VCPUCountAnnotation, strconv.Itoa(n))
	}
	return accepted
}

// agreeNUMA checks that each virtual processor is in one cell.
func (s *Settings) agreeNUMA(bad *problems) {
	if len(s.CPU.NUMA) == 0 {
		return
	}
	owner := map[int]int{}
	for id, cell := range s.CPU.NUMA {
		for _, cpu := range cell.CPUs {
			key := fmt.Sprintf("Numa.Cell[%d].CPUs", id)
			if other, taken := owner[cpu]; taken {
				bad.key(CPUSettingAnnotation, key, fmt.Sprint(cpu), fmt.Sprintf("is in cell %d too", other), "each processor in one cell")
			} else if cpu >= s.VCPUs {
				bad.key(CPUSettingAnnotation, key, fmt.Sprint(cpu), fmt.Sprintf("is not there: %s is %d", VCPUCountAnnotation, s.VCPUs), fmt.Sprintf("0 to %d", s.VCPUs-1))
			}
			owner[cpu] = id
		}
	}
	if rest := uncovered(owner, s.VCPUs); len(rest) > 0 {
		bad.key(CPUSettingAnnotation, "Numa", strings.Join(rest, ","), "are virtual processors in no cell", "each processor in one cell")
	}
}

func uncovered(owner map[int]int, vcpus int) []string {
	var rest []string
	for cpu := range vcpus {
		if _, ok := owner[cpu]; !ok {
			rest = append(rest, strconv.Itoa(cpu))
		}
	}
	return rest
}

// agreeNUMAMemory compares the cells with the guest's RAM, of which field tells
// where it is from.
func (s *Settings) agreeNUMAMemory(ram int64, field string, bad *problems) {
	if sum := s.numaMemory(); sum != ram {
		bad.key(CPUSettingAnnotation, "Numa", fmt.Sprintf("%dMi", sum/mib),
			fmt.Sprintf("is the memory of all cells, but the guest has %dMi by %s", ram/mib, field), "cells that add up to the guest's memory, or no memory limit")
	}
}

// about tells whether there is a problem with a field.
func (p *problems) about(field string) bool {
	return slices.ContainsFunc(*p, func(q Problem) bool { return q.Field == field })
}

// key adds a problem with a key in an annotation.
func (p *problems) key(annotation, key, value, reason, accepted string) {
	p.add(annotation, value, reason, accepted)
	last := &(*p)[len(*p)-1]
	last.Annotation, last.Key = true, key
}
