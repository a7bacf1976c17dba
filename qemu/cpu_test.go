package qemu

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/qemulet/qemulet/qmp"
)

// Names of libvirt's and Linux's, and QEMU's own.
func TestFeatureNames(t *testing.T) {
	caps := goldenCapabilities(t)
	for name, want := range map[string]string{
		"avx": "avx", "vmx": "vmx", "pdpe1gb": "pdpe1gb", "sse4.1": "sse4.1", "sse4_1": "sse4.1", "sse4-2": "sse4.2",
		"lahf_lm": "lahf-lm", "cmp_legacy": "cmp-legacy", "fxsr_opt": "fxsr-opt", "pclmuldq": "pclmulqdq", "ds_cpl": "ds-cpl", "cr8_legacy": "cr8legacy",
		"perfctr_core": "perfctr-core", "tsc_adjust": "tsc-adjust", "tsc_deadline_timer": "tsc-deadline", "tsc-deadline": "tsc-deadline",
		"avx512_vnni": "avx512vnni", "avx512_vpopcntdq": "avx512-vpopcntdq", "avx512_4vnniw": "avx512-4vnniw", "avx512_bf16": "avx512-bf16", "sha_ni": "sha-ni",
		"arch_capabilities": "arch-capabilities", "spec_ctrl": "spec-ctrl", "3dnowprefetch": "3dnowprefetch", "xsaveopt": "xsaveopt", "osxsave": "osxsave", "ht": "ht",
	} {
		if got, err := caps.feature(name); got != want {
			t.Errorf("%s is %q, %v; want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"", "AVX", "avx ", "-", "avx=on", "avx,enforce", "l3-cache", "enforce", "migratable", "no-such-feature"} {
		if got, err := caps.feature(name); err == nil {
			t.Errorf("%q is %s", name, got)
		}
	}
}

// Whatever is said for a feature, its other spellings are the same feature.
func TestFeatureSpellings(t *testing.T) {
	caps := goldenCapabilities(t)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(caps.CPUFeatures).Draw(t, "name")
		want, err := caps.feature(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "_", "-"), strings.ReplaceAll(name, "-", ".")} {
			if got, err := caps.feature(other); got != want {
				t.Fatalf("%s is %s, but %s is %s, %v", name, want, other, got, err)
			}
		}
	})
}

// The vendors that are written down are those that QEMU says.
func TestModelVendors(t *testing.T) {
	binary := realQEMU(t)
	caps, err := Probe(t.Context(), binary, "")
	if err != nil {
		t.Fatal(err)
	}
	conn, peer, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	run := shortRun{Path: binary, File: peer, Args: []string{"-M", "none", "-S", "-nodefaults", "-display", "none", "-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"}}
	_, err = run.during(func(int) error {
		monitor, err := qmp.New(t.Context(), conn)
		if err != nil {
			return err
		}
		defer monitor.Close()
		for _, model := range caps.CPUModels {
			if model == "host" || model == "base" {
				continue // of the host, and of nobody
			}
			full, err := monitor.QueryCPUModelExpansion(t.Context(), "full", qmp.CPUModel{Name: model})
			if err != nil {
				return err
			}
			if got := modelVendor(model); got != full.Props["vendor"] {
				t.Errorf("%s is of %s, QEMU says %v", model, got, full.Props["vendor"])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVendorIn(t *testing.T) {
	if got := vendorIn("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n"); got != vendorIntel {
		t.Errorf("%q", got)
	}
	if got := vendorIn("vendor_id without a value\n"); got != "" {
		t.Errorf("%q", got)
	}
	if hostVendor() == "" {
		t.Error("this host has no vendor")
	}
}

// What is wrong with a processor is found all at once, before there is a machine.
func TestCheckCPU(t *testing.T) {
	caps := goldenCapabilities(t)
	good := Config{Accel: TCG, VCPUs: 2, CPU: CPU{Model: "Westmere", Topology: &Topology{1, 1, 2}}}
	if all := CheckCPU(good, caps); len(all) != 0 {
		t.Errorf("%v", all)
	}
	wrong := Config{Accel: TCG, VCPUs: 2, CPU: CPU{
		Model: "host-passthrough", Vendor: vendorHygon, Topology: &Topology{1, 1, 1},
		Features: map[string]FeaturePolicy{"vmx": FeatureRequire, "speed": FeatureDisable},
	}}
	var fields []string
	for _, err := range CheckCPU(wrong, caps) {
		var ce *ConfigError
		if !errors.As(err, &ce) {
			t.Fatal(err)
		}
		fields = append(fields, ce.Field)
	}
	if want := []string{"cpu.model", "cpu.vendor", "cpu.features.speed", "cpu.features.vmx", "cpu.topology"}; !slices.Equal(fields, want) {
		t.Errorf("got %q, want %q", fields, want)
	}
	wrong.Machine = "pc"
	if all := CheckCPU(wrong, caps); len(all) != 1 || !strings.Contains(all[0].Error(), "machine") {
		t.Errorf("%v", all)
	}
}

// host-model is the host's processor on whichever host, and asks for nothing
// that one of them may lack.
func TestHostModelOnAnyHost(t *testing.T) {
	for _, vendor := range []string{vendorIntel, vendorAMD, vendorHygon, "CentaurHauls", ""} {
		for accel, want := range map[Accel]string{KVM: "host,migratable=on", TCG: "max"} {
			caps := goldenCapabilities(t)
			caps.HostVendor = vendor
			for _, model := range []string{"", "host-model"} {
				inv, err := Build(Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: accel, VCPUs: 2, MemoryBytes: 1 << 27, CPU: CPU{Model: model}}, caps)
				if err != nil || cpuOf(inv) != want {
					t.Errorf("%s on %q: -cpu %s, %v; want %s", accel, vendor, cpuOf(inv), err, want)
				}
			}
		}
	}
}

// An AMD processor has threads only with a feature of its own.
func TestThreadsOfAMD(t *testing.T) {
	for _, c := range []struct {
		vendor string
		cpu    CPU
		want   string
	}{
		{vendorAMD, CPU{Topology: &Topology{1, 1, 2}}, "host,migratable=on,topoext=on"},
		{vendorHygon, CPU{Model: "EPYC", Topology: &Topology{1, 1, 2}}, "EPYC,enforce=on,topoext=on"},
		{vendorAMD, CPU{Topology: &Topology{1, 2, 1}}, "host,migratable=on"},
		{vendorAMD, CPU{Topology: &Topology{1, 1, 2}, Features: map[string]FeaturePolicy{"topoext": FeatureDisable}}, "host,migratable=on,topoext=off"},
		{vendorAMD, CPU{VendorID: vendorIntel, Topology: &Topology{1, 1, 2}}, "host,migratable=on,vendor=GenuineIntel"},
		{vendorIntel, CPU{Topology: &Topology{1, 1, 2}}, "host,migratable=on"},
	} {
		caps := goldenCapabilities(t)
		caps.HostVendor = c.vendor
		inv, err := Build(Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: KVM, VCPUs: 2, MemoryBytes: 1 << 27, CPU: c.cpu}, caps)
		if err != nil || cpuOf(inv) != c.want {
			t.Errorf("%s, %+v: -cpu %s, %v; want %s", c.vendor, c.cpu, cpuOf(inv), err, c.want)
		}
	}
}

func cpuOf(inv Invocation) string {
	if i := slices.Index(inv.Args, "-cpu"); i >= 0 {
		return inv.Args[i+1]
	}
	return ""
}

// A binary that did not say what TCG has is not refused for it.
func TestFeaturesOfSilentBinary(t *testing.T) {
	caps := goldenCapabilities(t)
	caps.TCGFeatures = nil
	config := Config{Accel: TCG, VCPUs: 1, CPU: CPU{Features: map[string]FeaturePolicy{"vmx": FeatureRequire}}}
	if all := CheckCPU(config, caps); len(all) != 0 {
		t.Errorf("%v", all)
	}
}

// A binary that begins with KVM speaks of the host, not of TCG.
func TestTCGFeaturesAreOfTCG(t *testing.T) {
	for enabled, want := range map[string][]string{"false": {"avx"}, "true": nil} {
		answers := map[string]string{"query-kvm": `{"enabled":` + enabled + `}`, "query-cpu-model-expansion": `{"model":{"props":{"avx":true,"vmx":false,"level":1}}}`}
		c := Capabilities{Arch: AMD64, Accels: []Accel{KVM, TCG}, CPUFeatures: []string{"avx", "level", "vmx"}}
		err := askTCGFeatures(func(command string, _, out any) error { return json.Unmarshal([]byte(answers[command]), out) }, &c)
		if err != nil || !slices.Equal(c.TCGFeatures, want) {
			t.Errorf("%q, %v", c.TCGFeatures, err)
		}
	}
}

// Ranges hold the same numbers, in their order and without overlap.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfDistinct(rapid.IntRange(0, 40), rapid.ID).Draw(t, "numbers")
		var got []int
		for _, r := range ranges(numbers) {
			from, to, isRange := strings.Cut(r, "-")
			if !isRange {
				to = from
			}
			for n := atoi(from); n <= atoi(to); n++ {
				got = append(got, n)
			}
		}
		if want := slices.Sorted(slices.Values(numbers)); !slices.Equal(got, want) {
			t.Fatalf("%v became %v", want, got)
		}
	})
}

func atoi(text string) (n int) {
	_ = json.Unmarshal([]byte(text), &n)
	return n
}
