package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// topologyOf prints a line for each processor: its socket, its core, and the processors that are threads of this core.
const topologyOf = `for c in /sys/devices/system/cpu/cpu[0-9]*; do t=$c/topology; echo $(cat $t/physical_package_id $t/core_id $t/thread_siblings_list); done`

// nodesOf prints a line for each NUMA node: its processors, its memory in kB, its distances.
const nodesOf = `for n in /sys/devices/system/node/node[0-9]*; do echo $(cat $n/cpulist) $(sed -n 's/.*MemTotal: *//p' $n/meminfo) $(cat $n/distance); done`

// flagsOf are the features of the first processor, with a space around each.
func flagsOf(c *node.Console) string {
	return " " + c.Command(`sed -n 's/^flags[^:]*: *//p;T;q' /proc/cpuinfo`) + " "
}

func lines(text string) []string {
	return strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\r", ""), "\n")
}

// A manifest's processor is the one that the guest finds: model, vendor, features, sockets, cores, threads and NUMA nodes.
func TestCPUSetting(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "cpu", func(vm *node.VM) {
		vm.Config.Linux.Resources.MemoryLimitInBytes = 128 << 20
		vm.Pod.Annotations["VirtletVCPUCount"] = "4"
		vm.Pod.Annotations["VirtletCPUModel"] = "host-model" // and yet
		vm.Pod.Annotations["VirtletSystemUUID"] = "53008994-44C0-4017-AD44-9C49758083DA"
		vm.Pod.Annotations["VirtletLibvirtCPUSetting"] = `
mode: custom
Match: exact
MODEL: {value: Westmere, Fallback: forbid}
vendor: Intel
topology: {sockets: 2, cores: 1, threads: 2}
features:
- {name: avx, policy: require}
- {name: sse4_2, policy: disable}
- {name: vmx, policy: optional}
- {name: lahf_lm, policy: disable}
numa:
  cell:
  - {id: 0, cpus: 0-1, memory: 96, unit: MiB}
  - {id: 1, cpus: "2,3", memory: 32768, distances: {siblings: [{id: 0, value: 21}]}}
`
	})
	vm.Run(t)
	vm.WaitReady(t)
	vm.WaitLog(t, `^@@GUEST cpu n=4 model=Westmere `, time.Second)
	c := vm.Attach(t)
	if got := c.Command(`sed -n 's/^vendor_id[^:]*: *//p;T;q' /proc/cpuinfo`); got != "GenuineIntel" {
		t.Errorf("vendor %q", got)
	}
	flags := flagsOf(c)
	for name, want := range map[string]bool{"aes": true, "avx": true, "sse4_1": true, "sse4_2": false, "vmx": false, "lahf_lm": false} {
		if strings.Contains(flags, " "+name+" ") != want {
			t.Errorf("%s is there: %v, in %q", name, !want, flags)
		}
	}
	if got, want := lines(c.Command(topologyOf)), []string{"0 0 0-1", "0 0 0-1", "1 0 2-3", "1 0 2-3"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("topology %q, expected %q", got, want)
	}
	nodes := lines(c.Command(nodesOf))
	if len(nodes) != 2 {
		t.Fatalf("NUMA nodes: %q", nodes)
	}
	matches(t, "the first node", nodes[0], `^0-1 [4-9][0-9]{4} kB 10 21$`)
	matches(t, "the second node", nodes[1], `^2-3 [123][0-9]{4} kB 21 10$`)
	if got := c.Command("cat /sys/class/dmi/id/product_uuid"); got != "53008994-44c0-4017-ad44-9c49758083da" {
		t.Errorf("UUID %q", got)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// host-model in each of its spellings is the best that can be had, on any host.
func TestHostModel(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	flags := map[string]string{}
	for name, annotation := range map[string][2]string{
		"default": {"VirtletVCPUCount", "1"},
		"short":   {"VirtletCPUModel", "host-model"},
		"long":    {"VirtletLibvirtCPUSetting", "mode: host-model"},
		"less":    {"VirtletLibvirtCPUSetting", "{mode: host-model, features: [{name: avx2, policy: disable}]}"},
	} {
		vm := n.NewVM(t, name, func(vm *node.VM) { vm.Pod.Annotations[annotation[0]] = annotation[1] })
		vm.Run(t)
		vm.WaitReady(t)
		flags[name] = flagsOf(vm.Attach(t))
		vm.Remove(t)
	}
	if flags["default"] != flags["short"] || flags["short"] != flags["long"] {
		t.Errorf("host-model differs: %q", flags)
	}
	if want := strings.Replace(flags["long"], " avx2 ", " ", 1); flags["less"] != want || flags["long"] == want {
		t.Errorf("without avx2: %q, with: %q", flags["less"], flags["long"])
	}
	n.NoLeaks(t)
}

// What this node cannot give is refused when the sandbox is made, together with all else that is wrong.
func TestCPUSettingRefused(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	for _, c := range []struct {
		setting string
		words   []string
	}{
		{"mode: host-passthrough", []string{"VirtletLibvirtCPUSetting Mode", "host-passthrough", "only KVM"}},
		{"{mode: host-model, features: [{name: vmx}, {name: no-such-thing, policy: disable}]}", []string{"Features vmx", "tcg does not have", "Features no-such-thing", "-cpu help"}},
		{"{model: {value: Westmeer}, vendor: AMD}", []string{"Model.Value", "Westmeer", "Westmere", "Vendor", "GenuineIntel"}},
		{"topology: {sockets: 1, cores: 2, threads: 1}", []string{"Topology", "VirtletVCPUCount"}},
		{"match: strict", []string{"Match", "strict", "exact"}},
	} {
		vm := n.NewVM(t, "refused", func(vm *node.VM) {
			vm.Pod.Annotations["VirtletLibvirtCPUSetting"] = c.setting
			vm.Pod.Annotations["VirtletRootVolumeSize"] = "4GB"
		})
		err := vm.TrySandbox(seconds(t, 30))
		if err == nil {
			t.Errorf("%s was accepted", c.setting)
			vm.Remove(t)
			continue
		}
		mentions(t, err.Error(), append(c.words, "VirtletLibvirtCPUSetting", "VirtletRootVolumeSize", "4GB")...)
	}
	// The container's memory is known only with the container.
	vm := n.NewVM(t, "memory", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletLibvirtCPUSetting"] = "numa: {cell: [{cpus: 0, memory: 64, unit: MiB}]}"
	})
	check(t, vm.TrySandbox(seconds(t, 30)))
	if err := vm.TryCreate(seconds(t, 30)); err == nil {
		t.Error("64 MiB of NUMA nodes were accepted for 96 MiB of memory")
	} else {
		mentions(t, err.Error(), "VirtletLibvirtCPUSetting Numa", "64Mi", "96Mi")
	}
	vm.Remove(t)
	n.NoLeaks(t)
}
