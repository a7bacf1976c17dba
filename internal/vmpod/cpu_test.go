package vmpod

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"pgregory.net/rapid"
)

// cpuOf parses the annotation of a pod with some processors.
func cpuOf(vcpus int, text string) (*CPUSetting, error) {
	pod, err := ParseSandbox(sandbox(map[string]string{CPUSettingAnnotation: text, VCPUCountAnnotation: fmt.Sprint(vcpus)}))
	if err != nil {
		return nil, err
	}
	return pod.CPU, nil
}

func TestCPUSetting(t *testing.T) {
	westmere := func(change func(*CPUSetting)) *CPUSetting {
		c := &CPUSetting{Mode: CPUCustom, Model: "Westmere"}
		if change != nil {
			change(c)
		}
		return c
	}
	for _, c := range []struct {
		vcpus int
		text  string
		want  *CPUSetting
	}{
		{1, "", &CPUSetting{}},
		{1, "null", &CPUSetting{}},
		{1, "{}", &CPUSetting{}},
		// Virtlet's documentation, and its example.
		{1, "Match: exact\nModel:\n  Fallback: allow\n  Value: core2duo\n", &CPUSetting{Mode: CPUCustom, Model: "core2duo"}},
		{1, "mode: custom\nmodel:\n  value: Westmere\nfeatures:\n- name: avx\n  policy: disable\n", westmere(func(c *CPUSetting) { c.Features = []CPUFeature{{"avx", "disable"}} })},
		{1, `{"MODE": "custom", "mOdEl": {"VALUE": "Westmere"}}`, westmere(nil)},
		{1, "mode: host-passthrough", &CPUSetting{Mode: CPUHostPassthrough}},
		{1, "{mode: host-model, model: {fallback: forbid}, check: partial}", &CPUSetting{Mode: CPUHostModel, Check: "partial"}},
		{1, "model: {value: 486}", &CPUSetting{Mode: CPUCustom, Model: "486"}},
		{1, "{model: {value: Westmere, vendorid: 'Xen\"Visor\"12'}, vendor: AMD}", westmere(func(c *CPUSetting) { c.VendorID, c.Vendor = `Xen"Visor"12`, "AuthenticAMD" })},
		{1, "{vendor: HygonGenuine}", &CPUSetting{Vendor: "HygonGenuine"}},
		{8, "topology: {sockets: 1, cores: 4, threads: 2}", &CPUSetting{Topology: &CPUTopology{1, 4, 2}}},
		{1, "cache: {level: 3, mode: emulate}", &CPUSetting{Cache: "emulate"}},
		{1, "cache: {mode: disable}", &CPUSetting{Cache: "disable"}},
		{1, "{mode: host-passthrough, cache: {mode: passthrough}}", &CPUSetting{Mode: CPUHostPassthrough, Cache: "passthrough"}},
		{1, "features: [{name: avx}, {name: vmx, policy: optional}]", &CPUSetting{Features: []CPUFeature{{"avx", "require"}, {"vmx", "optional"}}}},
		{1, "{features: null, numa: null, topology: null, mode: null, xmlname: {local: cpu}}", &CPUSetting{}},
		// Keys that libvirt's element did not have for Virtlet.
		{1, "{feature: [{name: avx}], Mode: host-model, numa: {cell: [{cpus: 0, memory: 1024, color: red}]}}",
			&CPUSetting{Mode: CPUHostModel, NUMA: []NUMACell{{CPUs: []int{0}, MemoryBytes: 1 << 20}}, Ignored: []string{"Numa.Cell[0].color", "feature"}}},
		{4, "numa: {cell: [{id: 1, cpus: '3', memory: 16, unit: MiB, memAccess: shared}, {id: 0, cpus: '0-3,^3', memory: 1, unit: GiB}]}",
			&CPUSetting{NUMA: []NUMACell{{CPUs: []int{0, 1, 2}, MemoryBytes: 1 << 30}, {CPUs: []int{3}, MemoryBytes: 16 << 20, Shared: true}}}},
		{1, "numa: {cells: [{cpus: 0, memory: 1}, {memory: 1000001, unit: KB}]}",
			&CPUSetting{NUMA: []NUMACell{{CPUs: []int{0}, MemoryBytes: 1 << 20}, {MemoryBytes: 954 << 20}}}},
		{1, "numa: {cell: [{cpus: 0, memory: 1, distances: {siblings: [{id: 1, value: 30}]}}, {memory: 1}, {memory: 1, distances: {siblings: [{id: 0, value: 40}, {id: 2, value: 10}]}}]}",
			&CPUSetting{NUMA: []NUMACell{
				{CPUs: []int{0}, MemoryBytes: 1 << 20, Distances: []int{10, 30, 40}},
				{MemoryBytes: 1 << 20, Distances: []int{30, 10, 20}},
				{MemoryBytes: 1 << 20, Distances: []int{40, 20, 10}},
			}}},
	} {
		if got, err := cpuOf(c.vcpus, c.text); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %v\ngot  %+v\nwant %+v", c.text, err, got, c.want)
		}
	}
}

// Each thing that cannot be is named by its key, with its value.
func TestCPUSettingRefused(t *testing.T) {
	for text, want := range map[string][]string{
		"mode: Custom":   {`Mode = "Custom"`},
		"mode: maximum":  {`Mode = "maximum"`},
		"mode: [custom]": {`Mode = "[\"custom\"]": is not a text`},
		"mode: custom":   {"Model.Value: is missing"},
		"{mode: host-model, model: {value: Westmere}}":       {`Model.Value = "Westmere": Mode host-model takes no model`},
		"{mode: host-passthrough, model: {value: Westmere}}": {`Model.Value = "Westmere"`},
		"match: minimum":                                                  {`Match = "minimum": QEMU has no`},
		"match: strict":                                                   {`Match = "strict": QEMU has no`},
		"match: roughly":                                                  {`Match = "roughly": is not known`},
		"check: all":                                                      {`Check = "all"`},
		"model: Westmere":                                                 {`Model = "Westmere": is not a mapping`},
		"model: {value: x, fallback: maybe}":                              {`Model.Fallback = "maybe"`},
		"model: {value: x, vendorID: Intel}":                              {`Model.VendorID = "Intel"`},
		"model: {value: x, vendorID: 'a,b,c,d,e,f,'}":                     {"Model.VendorID"},
		"vendor: Transmeta":                                               {`Vendor = "Transmeta": unknown vendor`},
		"topology: {sockets: 1, cores: 2}":                                {"Topology.Threads: is missing"},
		"topology: {sockets: 1, cores: 2, threads: 0}":                    {`Topology.Threads = "0"`},
		"topology: {sockets: 1.5, cores: 2, threads: '1'}":                {`Topology.Sockets = "1.5"`, `Topology.Threads = "1"`},
		"topology: {sockets: 2, cores: 2, threads: 1}":                    {`Topology = "2 sockets of 2 cores of 1 threads": are 4 virtual processors, but VirtletVCPUCount is 1; accepted: numbers whose product is 1; or VirtletVCPUCount: "4"`},
		"topology: {sockets: 255, cores: 255, threads: 255}":              {`are 16581375 virtual processors`},
		"topology: [1, 1, 1]":                                             {"Topology = \"[1,1,1]\": is not a mapping"},
		"cache: {mode: emulate}":                                          {"Cache.Level: QEMU emulates the third level only"},
		"cache: {mode: emulate, level: 2}":                                {`Cache.Level = "2"`},
		"cache: {mode: disable, level: 3}":                                {`Cache.Level = "3": goes with Mode emulate only`},
		"cache: {mode: passthrough}":                                      {`Cache.Mode = "passthrough"`},
		"cache: {level: 3}":                                               {"Cache.Mode: is missing"},
		"cache: {mode: half}":                                             {`Cache.Mode = "half": is not known`},
		"features: {name: avx}":                                           {`Features = "{\"name\":\"avx\"}": is not a list`},
		"features: [avx]":                                                 {`Features[0] = "\"avx\"": is not a mapping`},
		"features: [{name: avx, policy: on}]":                             {`Features[0].Policy = "true"`},
		"features: [{policy: force}]":                                     {"Features[0].Name: is missing"},
		"features: [{name: [avx]}]":                                       {"Features[0].Name"},
		"features: [{name: avx}, {name: avx}]":                            {`Features[1].Name = "avx": is given twice`},
		"{Mode: host-model, mode: host-passthrough}":                      {"mode: is given twice, also as Mode"},
		"numa: {cell: [{cpus: 0}]}":                                       {"Numa.Cell[0].Memory: is missing"},
		"numa: {cell: [{cpus: 0, memory: 0}]}":                            {`Numa.Cell[0].Memory = "0"`},
		"numa: {cell: [{cpus: 0, memory: 17, unit: TiB}]}":                {`Numa.Cell[0].Memory = "17"`},
		"numa: {cell: [{cpus: 0, memory: 1, unit: pages}]}":               {`Numa.Cell[0].Unit = "pages"`},
		"numa: {cell: [{cpus: 0, memory: 512Mi}]}":                        {`Numa.Cell[0].Memory = "512Mi"`},
		"numa: {cell: [{cpus: x, memory: 1}]}":                            {`Numa.Cell[0].CPUs = "x"`},
		"numa: {cell: [{cpus: 0-99999999, memory: 1}]}":                   {"Numa.Cell[0].CPUs"},
		"numa: {cell: [{cpus: 2-1, memory: 1}]}":                          {"Numa.Cell[0].CPUs"},
		"numa: {cell: [{cpus: '^0', memory: 1}]}":                         {"Numa.Cell[0].CPUs"},
		"numa: {cell: [{cpus: 0, memory: 1, memAccess: x}]}":              {`Numa.Cell[0].MemAccess = "x"`},
		"numa: {cell: [{cpus: 0-1, memory: 1}]}":                          {`Numa.Cell[0].CPUs = "1": is not there: VirtletVCPUCount is 1`},
		"numa: {cell: [{cpus: 0, memory: 1}, {cpus: 0, memory: 1}]}":      {`Numa.Cell[1].CPUs = "0": is in cell 0 too`},
		"numa: {cell: [{memory: 1}]}":                                     {`Numa = "0": are virtual processors in no cell`},
		"numa: {cell: [{id: 1, cpus: 0, memory: 1}]}":                     {`Numa.Cell[0].ID = "1"`},
		"numa: {cell: [{id: 0, cpus: 0, memory: 1}, {id: 0, memory: 1}]}": {`Numa.Cell[1].ID = "0": is the number of another cell`},
		"numa: {cell: [{cpus: 0, memory: 1, distances: {siblings: [{id: 0, value: 11}]}}]}":       {`Numa.Cell[0].Distances.Siblings[0].Value = "11"`},
		"numa: {cell: [{cpus: 0, memory: 1, distances: {siblings: [{id: 1, value: 20}]}}]}":       {`Numa.Cell[0].Distances.Siblings[0].ID = "1"`},
		"numa: {cell: [" + strings.Repeat("{cpus: 0, memory: 1},", maxNUMACells+1) + "]}":         {`Numa.Cell = "129"`},
		"{mode: x, match: y, check: z, vendor: v, features: [{policy: p}], numa: 7, topology: 8}": {"Mode", "Match", "Check", "Vendor", "Features[0].Policy", "Features[0].Name", "Numa", "Topology"},
	} {
		_, err := cpuOf(1, text)
		problems := mustFail(t, err)
		for _, w := range want {
			if !strings.Contains(err.Error(), "\n  "+CPUSettingAnnotation+" "+w) && !strings.Contains(err.Error(), w) {
				t.Errorf("%.80q: no %q in %v", text, w, err)
			}
		}
		if len(problems) != len(want) {
			t.Errorf("%.80q: %d problems, want %d: %v", text, len(problems), len(want), err)
		}
		for _, p := range problems {
			if !p.Annotation || p.Field != CPUSettingAnnotation || p.Accepted == "" {
				t.Errorf("%.80q: %+v", text, p)
			}
		}
	}
}

// A count that is wrong itself is no base for comparing.
func TestCPUSettingWithBadCount(t *testing.T) {
	_, err := ParseSandbox(sandbox(map[string]string{CPUSettingAnnotation: "topology: {sockets: 2, cores: 1, threads: 1}", VCPUCountAnnotation: "two"}))
	if problems := mustFail(t, err); len(problems) != 1 || problems[0].Field != VCPUCountAnnotation {
		t.Errorf("%v", err)
	}
}

func TestIgnoredKeysAreNoted(t *testing.T) {
	pod, err := ParseSandbox(sandbox(map[string]string{CPUSettingAnnotation: "{mode: host-model, migratable: false}"}))
	if want := []string{"VirtletLibvirtCPUSetting: keys that are not known have no effect: migratable"}; err != nil || !slices.Equal(pod.Notes, want) {
		t.Errorf("%v, %v", pod, err)
	}
}

// The cells' memory is the guest's.
func TestNUMAMemory(t *testing.T) {
	const cells = "numa: {cell: [{cpus: 0, memory: 64, unit: MiB}, {memory: 32, unit: MiB}]}"
	for _, c := range []struct {
		pod, container int64
		text           string
		want           int64
		says           string
	}{
		{0, 0, cells, 96 << 20, ""},
		{0, 96 << 20, cells, 96 << 20, ""},
		{0, 96<<20 + 5, cells, 96 << 20, ""},
		{96 << 20, 96 << 20, cells, 96 << 20, ""},
		{0, 128 << 20, cells, 0, `VirtletLibvirtCPUSetting Numa = "96Mi": is the memory of all cells, but the guest has 128Mi by resources.limits.memory`},
		{64 << 20, 64 << 20, cells, 0, `VirtletLibvirtCPUSetting Numa = "96Mi": is the memory of all cells, but the guest has 64Mi by the pod's memory limit`},
		{0, 0, "numa: {cell: [{cpus: 0, memory: 4, unit: MiB}]}", 0, `Numa = "4Mi": too little`},
	} {
		pod, container := sandbox(map[string]string{CPUSettingAnnotation: c.text}), container()
		pod.Linux.Resources = &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: c.pod}
		container.Linux.Resources.MemoryLimitInBytes = c.container
		vm, err := Parse(pod, container)
		if c.says == "" {
			if err != nil || vm.MemoryBytes != c.want {
				t.Errorf("%+v: %+v, %v", c, vm, err)
			}
			continue
		}
		if problems := mustFail(t, err); len(problems) != 1 || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// However keys are written, they are the same keys.
func TestKeysInAnyCase(t *testing.T) {
	const text = `{"Mode":"custom","Match":"exact","Check":"full","Model":{"Fallback":"forbid","Value":"Westmere","VendorID":"GenuineIntel"},"Vendor":"Intel",` +
		`"Topology":{"Sockets":2,"Cores":1,"Threads":1},"Cache":{"Level":3,"Mode":"emulate"},"Features":[{"Policy":"force","Name":"avx"}],` +
		`"Numa":{"Cell":[{"ID":0,"CPUs":"0-1","Memory":32,"Unit":"MiB","MemAccess":"shared","Distances":{"Siblings":[{"ID":0,"Value":10}]}}]}}`
	want, err := cpuOf(2, text)
	if err != nil || len(want.Ignored) > 0 {
		t.Fatalf("%+v, %v", want, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		written := anyCase(t, text)
		got, err := cpuOf(2, written)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %+v, %v", written, got, err)
		}
	})
}

// anyCase changes the case of letters in the keys.
func anyCase(t *rapid.T, text string) string {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	var change func(any) any
	change = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			changed := map[string]any{}
			for _, key := range sortedKeys(v) {
				letters := []rune(key)
				for i, r := range letters {
					letters[i] = rapid.SampledFrom([]rune{unicode.ToUpper(r), unicode.ToLower(r)}).Draw(t, key)
				}
				changed[string(letters)] = change(v[key])
			}
			return changed
		case []any:
			for i := range v {
				v[i] = change(v[i])
			}
		}
		return v
	}
	raw, err := json.Marshal(change(value))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A set is what was put into it, in whatever order.
func TestCPUSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := map[int]bool{}
		var parts []string
		for range rapid.IntRange(1, 6).Draw(t, "parts") {
			from := rapid.IntRange(0, 250).Draw(t, "from")
			to := rapid.IntRange(from, 254).Draw(t, "to")
			for n := from; n <= to; n++ {
				want[n] = true
			}
			parts = append(parts, rapid.SampledFrom([]string{"%d-%d", " %d - %d "}).Draw(t, "form"))
			parts[len(parts)-1] = fmt.Sprintf(parts[len(parts)-1], from, to)
			if rapid.Bool().Draw(t, "but") {
				delete(want, from)
				parts = append(parts, fmt.Sprintf("^%d", from))
			}
		}
		text := strings.Join(parts, ",")
		node := &tree{annotation: "a", bad: &problems{}, children: &[]*tree{}}
		node.open(map[string]any{"cpus": text})
		got := readCPUList(node)
		if len(*node.bad) > 0 || len(got) != len(want) || !slices.IsSorted(got) {
			t.Fatalf("%s: %v, %v", text, got, node.bad)
		}
		for _, n := range got {
			if !want[n] {
				t.Fatalf("%s has %d", text, n)
			}
		}
	})
}

func FuzzCPUSetting(f *testing.F) {
	for _, text := range []string{
		"", "null", "mode: host-model", "Match: exact\nModel: {Fallback: allow, Value: core2duo}",
		"topology: {sockets: 1, cores: 1, threads: 2}", "cache: {level: 3, mode: emulate}", "features: [{name: avx, policy: force}, {name: vmx}]",
		"numa: {cell: [{id: 0, cpus: '0-1,^1', memory: 1, unit: GiB, memAccess: shared, distances: {siblings: [{id: 1, value: 20}]}}, {cpus: 1, memory: 7}]}",
		"numa: {cells: [{}]}", "{Mode: custom, mode: custom}", "vendor: Intel",
	} {
		f.Add(text, "2")
	}
	f.Fuzz(func(t *testing.T, text, vcpus string) {
		pod, err := ParseSandbox(sandbox(map[string]string{CPUSettingAnnotation: text, VCPUCountAnnotation: vcpus}))
		if err != nil {
			for _, p := range mustFail(t, err) {
				if p.Field == "" || p.Reason == "" {
					t.Fatalf("%+v", p)
				}
			}
			return
		}
		checkAccepted(t, &pod.Settings)
	})
}

// checkAccepted wants of a setting what its documentation says.
func checkAccepted(t *testing.T, s *Settings) {
	c := s.CPU
	if (c.Mode == CPUCustom) != (c.Model != "") || c.Topology != nil && c.Topology.Sockets*c.Topology.Cores*c.Topology.Threads != s.VCPUs {
		t.Fatalf("%+v", c)
	}
	cpus := map[int]int{}
	for _, cell := range c.NUMA {
		if cell.MemoryBytes <= 0 || cell.MemoryBytes%MemoryStep != 0 || cell.Distances != nil && len(cell.Distances) != len(c.NUMA) {
			t.Fatalf("%+v", cell)
		}
		for _, cpu := range cell.CPUs {
			cpus[cpu]++
		}
	}
	for cpu, times := range cpus {
		if times != 1 || cpu < 0 || cpu >= s.VCPUs {
			t.Fatalf("processor %d %d times in %+v", cpu, times, c.NUMA)
		}
	}
	if len(c.NUMA) > 0 && len(cpus) != s.VCPUs || s.numaMemory() < 0 {
		t.Fatalf("%+v", c.NUMA)
	}
}
