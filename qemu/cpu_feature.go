package qemu

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// cpuFeatures are the switches of the features, sorted by QEMU's names of them,
// and what is wrong with any.
func (b *builder) cpuFeatures() (options, []error) {
	var wrong []error
	set := map[string]option{} // by QEMU's name
	asked := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(b.CPU.Features)) {
		policy := b.CPU.Features[name]
		feature, err := b.caps.feature(name)
		if other, twice := asked[feature]; err == nil && twice {
			err = bad(featureField(name), string(policy), "each feature once: %s is %s too", other, feature)
		}
		if err == nil {
			asked[feature] = name
			err = b.switchFeature(set, name, feature, policy)
		}
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	if _, spoken := asked[featureThreads]; b.hidesThreads() && !spoken {
		set[featureThreads] = option{featureThreads, "on"}
	}
	var o options
	for _, feature := range slices.Sorted(maps.Keys(set)) {
		o = append(o, set[feature])
	}
	return o, wrong
}

func featureField(name string) string { return "cpu.features." + name }

// switchFeature turns a policy into a switch, or into none.
func (b *builder) switchFeature(set map[string]option, name, feature string, policy FeaturePolicy) error {
	if slices.Contains(followsMachine, feature) {
		return b.checkPolicy(name, policy)
	}
	on := policy.demands() || policy == FeatureOptional
	switch {
	case policy == FeatureOptional && b.Accel == TCG && !b.emulates(feature):
		return nil
	case policy == FeatureOptional && b.Accel == KVM && b.enforces():
		return bad(featureField(name), string(policy), "%s or %s: QEMU cannot leave out one feature and insist on the others; or check %q", FeatureRequire, FeatureDisable, CheckNone)
	case policy == FeatureForbid && b.Accel == KVM:
		return bad(featureField(name), string(policy), "%s: QEMU cannot refuse a host for what it has", FeatureDisable)
	case policy == FeatureForbid && b.emulates(feature):
		return bad(featureField(name), string(policy), "%s: %s has this feature", FeatureDisable, b.Accel)
	case policy.demands() && b.CPU.Check != CheckNone && b.Accel == TCG && !b.emulates(feature):
		return bad(featureField(name), string(policy), "%s or %s: %s does not have this feature", FeatureOptional, FeatureDisable, b.Accel)
	}
	set[feature] = option{feature, onOff(on)}
	return b.checkPolicy(name, policy)
}

func (b *builder) checkPolicy(name string, p FeaturePolicy) error {
	all := []FeaturePolicy{FeatureForce, FeatureRequire, FeatureOptional, FeatureDisable, FeatureForbid}
	if slices.Contains(all, p) {
		return nil
	}
	return bad(featureField(name), string(p), "one of %v", all)
}

// followsMachine are features that libvirt knows and that nobody can switch:
// the guest's own system turns them on, or the topology does.
var followsMachine = []string{"ht", "osxsave", "ospke"}

// emulates tells whether TCG has a feature. It is believed to have all when
// the binary did not say.
func (b *builder) emulates(feature string) bool {
	return len(b.caps.TCGFeatures) == 0 || slices.Contains(b.caps.TCGFeatures, feature)
}

// spelledOtherwise are names of libvirt's and of Linux's /proc/cpuinfo that
// differ from QEMU's in more than punctuation.
var spelledOtherwise = map[string]string{
	"pclmuldq":         "pclmulqdq",
	"tscdeadlinetimer": "tsc-deadline",
	"avx5124vnniw":     "avx512-4vnniw",
	"avx5124fmaps":     "avx512-4fmaps",
}

// feature is QEMU's name of a feature. QEMU writes dashes where libvirt and
// /proc/cpuinfo have underscores, dots or nothing, and has several names for
// some; of these the one in -cpu help is taken.
func (c Capabilities) feature(name string) (string, error) {
	plain := unpunctuated(name)
	if other, ok := spelledOtherwise[plain]; ok {
		plain = unpunctuated(other)
	}
	if slices.Contains(followsMachine, plain) {
		return plain, nil
	}
	best := ""
	for _, known := range c.CPUFeatures {
		if unpunctuated(known) == plain && (best == "" || spelling(known) < spelling(best)) {
			best = known
		}
	}
	if best == "" {
		return "", bad(featureField(name), name, "a feature that `%s -cpu help` lists", c.Binary)
	}
	return best, nil
}

var punctuation = strings.NewReplacer("-", "", "_", "", ".", "")

func unpunctuated(name string) string { return punctuation.Replace(name) }

// spelling orders names of one feature: as QEMU shows them, with dots or
// dashes, before older ones.
func spelling(name string) string {
	return fmt.Sprint(strings.Count(name, "_"), strings.Count(name, "-"), name)
}
