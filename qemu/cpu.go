package qemu

import (
	"cmp"
	"errors"
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
// TCG runs all vCPUs on one thread. With a thread for each, about one in twelve
// Linux guests with four vCPUs hung while its kernel patched its own code (QEMU
// 7.2, on two processors); with one thread they also boot faster there.
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
		if b.VCPUs > 1 {
			o = append(o, option{"thread", "single"})
		}
	}
	b.opts("-accel", o)
	return nil
}

// addCPU sets the processor's model and what is changed in it. -cpu has no way
// to quote a comma, so names are checked. It finds all that is wrong at once.
func addCPU(b *builder) error {
	model, err := b.cpuModel()
	features, wrong := b.cpuFeatures()
	all := append([]error{err, b.checkVendor(), b.checkStrictness()}, wrong...)
	cache, err := b.cpuCache()
	if err := errors.Join(append(all, err)...); err != nil {
		return err
	}
	if b.enforces() {
		model = append(model, option{"enforce", "on"})
	}
	if b.CPU.VendorID != "" {
		model = append(model, option{"vendor", b.CPU.VendorID})
	}
	b.opts("-cpu", slices.Concat(model, features, cache))
	return nil
}

// cpuModel chooses the model.
func (b *builder) cpuModel() (options, error) {
	arch, model := b.caps.Arch, b.CPU.Model
	switch {
	case model == cpuHostPassthrough && b.Accel == KVM:
		return options{{arch.passthroughCPU(), ""}, {"migratable", "off"}}, nil
	case model == cpuHostPassthrough:
		return nil, bad("cpu.model", model, "nothing, %s or a named model: only KVM can pass the host's processor through", cpuHostModel)
	case !b.namedModel() && b.Accel == KVM:
		return options{{arch.passthroughCPU(), ""}, {"migratable", "on"}}, nil
	case !b.namedModel():
		return options{{arch.maximalCPU(), ""}}, nil
	case model == arch.passthroughCPU() || !slices.Contains(b.caps.CPUModels, model):
		return nil, bad("cpu.model", model, "nothing, %s, %s, or one of %s", cpuHostModel, cpuHostPassthrough, b.caps.modelHint())
	}
	return options{{model, ""}}, nil
}

// namedModel tells whether the model is one of QEMU's by name.
func (b *builder) namedModel() bool {
	return b.CPU.Model != "" && b.CPU.Model != cpuHostModel && b.CPU.Model != cpuHostPassthrough
}

var modelVersion = regexp.MustCompile(`-v\d+$`)

// modelHint lists the models without their versioned twins.
func (c Capabilities) modelHint() string {
	names := slices.DeleteFunc(slices.Clone(c.CPUModels), func(n string) bool {
		return modelVersion.MatchString(n) || n == c.Arch.passthroughCPU()
	})
	return strings.Join(names, ", ") + " (each also with a version, such as -v1)"
}

// enforces tells whether QEMU has to refuse when the processor cannot have all
// that is asked for. Under KVM a named model must be had in full: a guest must
// not silently get less. The host's own processor lacks nothing but what is
// asked for beside it. TCG never has all of a model, and says so; what it has
// is known, so that required features need no refusal of QEMU's.
func (b *builder) enforces() bool {
	switch {
	case b.CPU.Check == CheckNone || b.CPU.Check == CheckFull:
		return b.CPU.Check == CheckFull
	case b.Accel == TCG:
		return false
	}
	return b.namedModel() || slices.ContainsFunc(slices.Collect(maps.Values(b.CPU.Features)), FeaturePolicy.demands)
}

// demands tells whether a machine without the feature must not start.
func (p FeaturePolicy) demands() bool { return p == FeatureRequire || p == FeatureForce }

func (b *builder) checkStrictness() error {
	switch b.CPU.Check {
	case "", CheckNone, CheckPartial, CheckFull:
		return nil
	}
	return bad("cpu.check", string(b.CPU.Check), "nothing, %s, %s or %s", CheckNone, CheckPartial, CheckFull)
}

// cpuCache says what a guest is told of the caches, in libvirt's way. Only the
// models made from the host know of the host's caches.
func (b *builder) cpuCache() (options, error) {
	var o options
	switch {
	case b.CPU.Cache == "":
		return nil, nil
	case b.CPU.Cache == CachePassthrough && b.CPU.Model == cpuHostPassthrough:
		return options{{"host-cache-info", "on"}, {"l3-cache", "off"}}, nil
	case b.CPU.Cache != CacheEmulate && b.CPU.Cache != CacheDisable:
		return nil, bad("cpu.cache", string(b.CPU.Cache), "nothing, %s, %s, or %s with the model %s", CacheEmulate, CacheDisable, CachePassthrough, cpuHostPassthrough)
	case !b.namedModel():
		o = options{{"host-cache-info", "off"}}
	}
	return append(o, option{"l3-cache", onOff(b.CPU.Cache == CacheEmulate)}), nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
