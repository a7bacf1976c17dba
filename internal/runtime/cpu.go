package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// cpu is the processor that a pod has: of VirtletLibvirtCPUSetting, or else of
// VirtletCPUModel, or else the node's own setting.
func (r *Runtime) cpu(s *vmpod.Settings) qemu.CPU {
	if s.CPU == nil {
		return qemu.CPU{Model: cmp.Or(s.CPUModel, r.adjustable().DefaultCPUModel)}
	}
	c := qemu.CPU{
		Model:    s.CPU.Model,
		Check:    qemu.CPUCheck(s.CPU.Check),
		Vendor:   s.CPU.Vendor,
		VendorID: s.CPU.VendorID,
		Cache:    qemu.CPUCache(s.CPU.Cache),
		Features: map[string]qemu.FeaturePolicy{},
	}
	if s.CPU.Mode != vmpod.CPUCustom {
		c.Model = s.CPU.Mode
	}
	for _, f := range s.CPU.Features {
		c.Features[f.Name] = qemu.FeaturePolicy(f.Policy)
	}
	if t := s.CPU.Topology; t != nil {
		c.Topology = &qemu.Topology{Sockets: t.Sockets, Cores: t.Cores, Threads: t.Threads}
	}
	return c
}

func numaNodes(s *vmpod.Settings) []qemu.NUMANode {
	if s.CPU == nil {
		return nil
	}
	var nodes []qemu.NUMANode
	for _, cell := range s.CPU.NUMA {
		nodes = append(nodes, qemu.NUMANode{CPUs: cell.CPUs, MemoryBytes: cell.MemoryBytes, Shared: cell.Shared, Distances: cell.Distances})
	}
	return nodes
}

// checkCPU makes a check of a pod's settings that finds what this node's QEMU
// and accelerator cannot give. A node without a usable QEMU finds nothing: that
// is an error of its own.
func (r *Runtime) checkCPU(ctx context.Context) func(*vmpod.Pod) []vmpod.Problem {
	return func(p *vmpod.Pod) []vmpod.Problem {
		state, err := r.Hypervisor.Ready(ctx)
		if err != nil {
			return nil
		}
		return r.cpuProblems(&p.Settings, state)
	}
}

// cpuProblems are what settings ask of a processor that cannot be had.
func (r *Runtime) cpuProblems(s *vmpod.Settings, state *HypervisorState) (all []vmpod.Problem) {
	config := qemu.Config{Accel: state.Accel.Accel, CPU: r.cpu(s), VCPUs: s.VCPUs, TBSizeMiB: tbSizeMiB}
	for _, err := range qemu.CheckCPU(config, state.Capabilities) {
		all = append(all, cpuProblem(s, err))
	}
	return all
}

// cpuProblem says which annotation and key, or which setting, asked for what
// cannot be had.
func cpuProblem(s *vmpod.Settings, err error) vmpod.Problem {
	var ce *qemu.ConfigError
	if !errors.As(err, &ce) {
		return vmpod.Problem{Field: "QEMU", Reason: err.Error()}
	}
	p := vmpod.Problem{Annotation: true, Value: fmt.Sprint(ce.Value), Reason: "cannot be had on this node", Accepted: ce.Accepted}
	switch {
	case ce.Field == "vcpus":
		p.Field = vmpod.VCPUCountAnnotation
	case s.CPU != nil:
		p.Field, p.Key = vmpod.CPUSettingAnnotation, cpuKey(ce.Field, s.CPU.Mode)
	case s.CPUModel != "":
		p.Field = vmpod.CPUModelAnnotation
	default:
		p.Annotation, p.Field = false, "the node's setting cpu-model"
	}
	return p
}

// cpuKey is libvirt's name for a field of qemu.CPU.
func cpuKey(field, mode string) string {
	if feature, ok := strings.CutPrefix(field, "cpu.features."); ok {
		return "Features " + feature
	}
	switch field {
	case "cpu.model":
		if mode != vmpod.CPUCustom {
			return "Mode"
		}
		return "Model.Value"
	case "cpu.vendor":
		return "Vendor"
	case "cpu.vendorID":
		return "Model.VendorID"
	case "cpu.check":
		return "Check"
	case "cpu.cache":
		return "Cache.Mode"
	case "cpu.topology":
		return "Topology"
	case "cpu.topology.threads":
		return "Topology.Threads"
	}
	return field
}
