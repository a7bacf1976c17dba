package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// settings are those of a pod with some annotations.
func settings(t *testing.T, annotations map[string]string) *vmpod.Settings {
	t.Helper()
	pod, err := vmpod.ParseSandbox(&runtimeapi.PodSandboxConfig{
		Metadata:    &runtimeapi.PodSandboxMetadata{Name: "vm", Namespace: "default", Uid: "u"},
		Annotations: annotations,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &pod.Settings
}

// VirtletLibvirtCPUSetting wins over VirtletCPUModel, and that over the node;
// an empty one over both.
func TestWhoseCPUCounts(t *testing.T) {
	const setting, model = vmpod.CPUSettingAnnotation, vmpod.CPUModelAnnotation
	for _, c := range []struct {
		node        string
		annotations map[string]string
		want        string
	}{
		{"", nil, ""},
		{"Westmere", nil, "Westmere"},
		{"Westmere", map[string]string{model: ""}, "Westmere"},
		{"Westmere", map[string]string{model: "host-model"}, "host-model"},
		{"Westmere", map[string]string{model: "host-model", setting: "model: {value: Nehalem}"}, "Nehalem"},
		{"Westmere", map[string]string{model: "host-model", setting: "mode: host-passthrough"}, "host-passthrough"},
		{"Westmere", map[string]string{model: "host-model", setting: ""}, ""},
		{"Westmere", map[string]string{setting: "{topology: {sockets: 1, cores: 1, threads: 1}}"}, ""},
	} {
		r := &Runtime{Options: Options{DefaultCPUModel: c.node}}
		if got := r.cpu(settings(t, c.annotations)); got.Model != c.want {
			t.Errorf("node %q, %v: got %q, want %q", c.node, c.annotations, got.Model, c.want)
		}
	}
}

// Nothing of the annotation is lost on its way to QEMU.
func TestCPUSettingReachesQEMU(t *testing.T) {
	s := settings(t, map[string]string{vmpod.VCPUCountAnnotation: "2", vmpod.CPUSettingAnnotation: `
Mode: custom
Check: full
Model: {Value: Westmere, VendorID: AuthenticAMD}
Vendor: Intel
Topology: {Sockets: 2, Cores: 1, Threads: 1}
Cache: {Level: 3, Mode: emulate}
Features: [{Name: avx}, {Name: vmx, Policy: disable}]
Numa: {Cell: [{CPUs: "0", Memory: 64, Unit: MiB}, {CPUs: "1", Memory: 32, Unit: MiB, MemAccess: shared, Distances: {Siblings: [{ID: 0, Value: 21}]}}]}
`})
	r := &Runtime{}
	want := qemu.CPU{
		Model: "Westmere", Check: qemu.CheckFull, Vendor: "GenuineIntel", VendorID: "AuthenticAMD", Cache: qemu.CacheEmulate,
		Features: map[string]qemu.FeaturePolicy{"avx": qemu.FeatureRequire, "vmx": qemu.FeatureDisable},
		Topology: &qemu.Topology{Sockets: 2, Cores: 1, Threads: 1},
	}
	if got := r.cpu(s); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	nodes := []qemu.NUMANode{
		{CPUs: []int{0}, MemoryBytes: 64 << 20, Distances: []int{10, 21}},
		{CPUs: []int{1}, MemoryBytes: 32 << 20, Shared: true, Distances: []int{21, 10}},
	}
	if got := numaNodes(s); !reflect.DeepEqual(got, nodes) {
		t.Errorf("got  %+v\nwant %+v", got, nodes)
	}
}

// What this node cannot give is named by the annotation, its key and its value.
func TestCPUProblems(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "qemu", "testdata", "capabilities.json"))
	if err != nil {
		t.Fatal(err)
	}
	var caps qemu.Capabilities
	if err := json.Unmarshal(raw, &caps); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		node        string
		annotations map[string]string
		want        string
	}{
		{"", map[string]string{vmpod.CPUSettingAnnotation: "mode: host-passthrough"},
			`VirtletLibvirtCPUSetting Mode = "host-passthrough": cannot be had on this node; accepted: nothing, host-model or a named model: only KVM can pass the host's processor through`},
		{"", map[string]string{vmpod.CPUSettingAnnotation: "{mode: host-model, features: [{name: vmx}]}"},
			`VirtletLibvirtCPUSetting Features vmx = "require": cannot be had on this node; accepted: optional or disable: tcg does not have this feature`},
		{"", map[string]string{vmpod.CPUSettingAnnotation: "{vendor: Intel}"},
			`VirtletLibvirtCPUSetting Vendor = "GenuineIntel": cannot be had on this node; accepted: nothing, or AuthenticAMD: that is the vendor that TCG emulates`},
		{"host-passthrough", nil,
			`the node's setting cpu-model = "host-passthrough": cannot be had on this node; accepted: nothing, host-model or a named model: only KVM can pass the host's processor through`},
	} {
		r := &Runtime{Options: Options{DefaultCPUModel: c.node}}
		s := settings(t, c.annotations)
		all := qemu.CheckCPU(qemu.Config{Accel: qemu.TCG, CPU: r.cpu(s), VCPUs: s.VCPUs}, caps)
		if len(all) != 1 || cpuProblem(s, all[0]).String() != c.want {
			t.Errorf("%v: %v\ngot  %v\nwant %s", c.annotations, all, cpuProblem(s, errors.Join(all...)), c.want)
		}
	}
	for _, field := range []string{"cpu.vendorID", "cpu.check", "cpu.cache", "cpu.topology", "cpu.topology.threads", "cpu.model"} {
		if got := cpuKey(field, vmpod.CPUCustom); got == field {
			t.Errorf("%s has no key", field)
		}
	}
}
