package bench

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const (
	measuredVMs = 30
	// libvirtStats is what libvirt 9.0 needs for the like of 30 domains, in ms, on the machine that the goals were set on.
	libvirtStats = 456
	statsRounds  = 101
)

// BenchmarkStats measures what kubelet asks for every ten seconds: what each of many VMs uses. A VM that does not
// answer at all must not be felt.
func BenchmarkStats(b *testing.B) {
	n := node.Start(b, node.Options{Args: []string{"--log-level", "info", "--debug-commands", "all"}})
	pullBlank(b, n)
	var vms []*node.VM
	for i := range measuredVMs {
		vm := blankVM(b, n, i)
		vm.Run(b)
		pause(b, vm)
		vms = append(vms, vm)
	}
	well := statsTimes(b, n)
	stuck := n.QEMUs()[0]
	must(b, syscall.Kill(stuck.PID, syscall.SIGSTOP))
	beside := statsTimes(b, n)
	must(b, syscall.Kill(stuck.PID, syscall.SIGCONT))
	r := row{what: fmt.Sprintf("ListContainerStats over %d VMs", measuredVMs), unit: "ms", measured: well,
		baseline: samples{libvirtStats}, beside: "libvirt", goal: goal{value: 20}}
	r.report(b)
	r.metric(b, "stats")
	row{what: "— one of them is stopped by SIGSTOP", unit: "ms", measured: beside, baseline: samples{well.median()}, beside: "none is", goal: goal{value: 20}}.report(b)
	for _, vm := range vms {
		vm.Remove(b)
	}
	n.NoLeaks(b)
}

func statsTimes(b *testing.B, n *node.Node) (times samples) {
	b.Helper()
	for range statsRounds {
		times.addTime(statsTime(b, n))
	}
	return times
}

func statsTime(b *testing.B, n *node.Node) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return timed(b, func() error {
		r, err := n.Runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
		if err == nil && len(r.GetStats()) != measuredVMs {
			err = fmt.Errorf("stats of %d VMs, expected %d", len(r.GetStats()), measuredVMs)
		}
		return err
	})
}
