package qemu

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Models that are no model of QEMU's.
const (
	cpuHostModel       = "host-model"
	cpuHostPassthrough = "host-passthrough"
)

// defaultTBSizeMiB bounds TCG's translation buffer, which would otherwise grow to
// 1 GiB and meet the limit of a pod's memory.
const defaultTBSizeMiB = 64

// addAccel sets the accelerator, exactly one: a list would fall back silently.
// How many threads TCG runs vCPUs on is left to QEMU, which knows whether the
// host's memory ordering allows more than one.
func addAccel(b *builder) error {
	if b.Accel != KVM && b.Accel != TCG {
		return bad("accel", string(b.Accel), "%s or %s", KVM, TCG)
	}
	if !slices.Contains(b.caps.Accels, b.Accel) {
		return b.caps.lacks("the accelerator %s", b.Accel)
	}
	if b.TBSizeMiB < 0 || b.TBSizeMiB > 2048 {
		return bad("tbSizeMiB", b.TBSizeMiB, "0 for the default of %d, or 1 to 2048", defaultTBSizeMiB)
	}
	o := options{{string(b.Accel), ""}}
	if b.Accel == TCG {
		o = append(o, option{"tb-size", fmt.Sprint(cmp.Or(b.TBSizeMiB, defaultTBSizeMiB))})
	}
	b.opts("-accel", o)
	return nil
}

// addCPU sets the processor's model and features. -cpu has no way to quote a
// comma, so names are checked.
func addCPU(b *builder) error {
	o, err := b.cpuModel()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(b.CPU.Features)) {
		if err := b.checkFeature(name); err != nil {
			return err
		}
		o = append(o, option{name, onOff(b.CPU.Features[name])})
	}
	b.opts("-cpu", o)
	return nil
}

// cpuModel chooses the model. Under KVM a named one must be had in full (enforce):
// a guest must not silently get less. TCG never has all of a model, and says so.
func (b *builder) cpuModel() (options, error) {
	arch, model := b.caps.Arch, b.CPU.Model
	switch {
	case model == cpuHostPassthrough && b.Accel == KVM:
		return options{{arch.passthroughCPU(), ""}, {"migratable", "off"}}, nil
	case model == cpuHostPassthrough:
		return nil, bad("cpu.model", model, "nothing, %s or a named model: only KVM can pass the host's processor through", cpuHostModel)
	case (model == "" || model == cpuHostModel) && b.Accel == KVM:
		return options{{arch.passthroughCPU(), ""}, {"migratable", "on"}}, nil
	case model == "" || model == cpuHostModel:
		return options{{arch.maximalCPU(), ""}}, nil
	case model == arch.passthroughCPU() || !slices.Contains(b.caps.CPUModels, model):
		return nil, bad("cpu.model", model, "nothing, %s, %s, or one of %s", cpuHostModel, cpuHostPassthrough, b.caps.modelHint())
	case b.Accel == KVM:
		return options{{model, ""}, {"enforce", "on"}}, nil
	}
	return options{{model, ""}}, nil
}

var modelVersion = regexp.MustCompile(`-v\d+$`)

// modelHint lists the models without their versioned twins.
func (c Capabilities) modelHint() string {
	names := slices.DeleteFunc(slices.Clone(c.CPUModels), func(n string) bool {
		return modelVersion.MatchString(n) || n == c.Arch.passthroughCPU()
	})
	return strings.Join(names, ", ") + " (each also with a version, such as -v1)"
}

var validFeature = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// checkFeature refuses a feature that the binary does not know. QEMU writes
// dashes where /proc/cpuinfo and libvirt often have underscores, and takes both.
func (b *builder) checkFeature(name string) error {
	known := slices.Contains(b.caps.CPUFeatures, strings.ReplaceAll(name, "_", "-"))
	if validFeature.MatchString(name) && known {
		return nil
	}
	return bad("cpu.features", name, "a feature that `%s -cpu help` lists", b.caps.Binary)
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// maxVCPUs is what a PC can have without interrupt remapping, which has 8 bits
// for an APIC id.
const maxVCPUs = 255

// addTopology sets the number of vCPUs and how they are laid out.
func addTopology(b *builder) error {
	most := min(maxVCPUs, b.machine.MaxCPUs)
	if b.VCPUs < 1 || b.VCPUs > most {
		return bad("vcpus", b.VCPUs, "1 to %d", most)
	}
	t := Topology{Sockets: b.VCPUs, Cores: 1, Threads: 1}
	if b.CPU.Topology != nil {
		t = *b.CPU.Topology
	}
	if !t.makes(b.VCPUs) {
		return bad("cpu.topology", fmt.Sprintf("%d sockets of %d cores of %d threads", t.Sockets, t.Cores, t.Threads),
			"positive numbers whose product is vcpus, %d", b.VCPUs)
	}
	b.opts("-smp", options{{"cpus", fmt.Sprint(b.VCPUs)}, {"sockets", fmt.Sprint(t.Sockets)}, {"cores", fmt.Sprint(t.Cores)}, {"threads", fmt.Sprint(t.Threads)}})
	return nil
}

// makes tells whether the layout holds n processors. The division keeps huge
// factors from overflowing into a match.
func (t Topology) makes(n int) bool {
	if t.Sockets < 1 || t.Cores < 1 || t.Threads < 1 || t.Sockets > n || t.Cores > n || t.Threads > n {
		return false
	}
	return t.Sockets*t.Cores*t.Threads == n
}
