package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// rounds is how often things are measured; medians are reported.
const rounds = 15

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func minute(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func median(d []time.Duration) time.Duration {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Whole pod start over CRI against the same by hand, alternately. Goal: below 1.
func BenchmarkPodStart(b *testing.B) {
	n := node.Start(b, node.Options{})
	n.PullTiny(b)
	first := n.NewVM(b, "first", nil)
	first.Run(b)
	f, err := newFloor(n, n.QEMUs()[0], filepath.Join(n.Dir, "floor"), node.Guest(b, "tiny"))
	check(b, err)
	first.Remove(b)
	var ours, floor, sandbox, create, start []time.Duration
	var last steps
	for i := 0; i < b.N*rounds; i++ {
		vm := n.NewVM(b, fmt.Sprintf("pod%d", i), nil)
		t0 := time.Now()
		check(b, vm.TrySandbox(minute(b)))
		t1 := time.Now()
		check(b, vm.TryCreate(minute(b)))
		t2 := time.Now()
		check(b, vm.TryStart(minute(b)))
		t3 := time.Now()
		ours, sandbox, create, start = append(ours, t3.Sub(t0)), append(sandbox, t1.Sub(t0)), append(create, t2.Sub(t1)), append(start, t3.Sub(t2))
		vm.Remove(b)
		last, err = f.run(minute(b))
		check(b, err)
		floor = append(floor, last.total())
	}
	b.Logf("by hand, last round: netns %v, CNI ADD %v, overlay %v, seed %v, QEMU %v", last.netns, last.cni, last.overlay, last.seed, last.qemu)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(sandbox)), "sandbox-ms")
	b.ReportMetric(ms(median(create)), "create-ms")
	b.ReportMetric(ms(median(start)), "start-ms")
	b.ReportMetric(ms(median(ours)), "pod-ms")
	b.ReportMetric(ms(median(floor)), "floor-ms")
	b.ReportMetric(ms(median(ours))/ms(median(floor)), "of-floor")
}

// StopContainer of a machine that is paused, with a guest that obeys the power button once it runs again.
func BenchmarkStopPaused(b *testing.B) {
	n := node.Start(b, node.Options{})
	n.PullTiny(b)
	var graceful, forced []time.Duration
	for i := 0; i < b.N*3; i++ {
		for _, grace := range []int64{30, 0} {
			vm := n.NewVM(b, fmt.Sprintf("paused%d-%d", i, grace), nil)
			vm.Run(b)
			vm.WaitReady(b)
			n.DialDebug(b, vm).Execute(b, "stop")
			begin := time.Now()
			vm.Stop(b, grace)
			if took := time.Since(begin); grace > 0 {
				graceful = append(graceful, took)
			} else {
				forced = append(forced, took)
			}
			vm.Remove(b)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(graceful)), "grace30-ms")
	b.ReportMetric(ms(median(forced)), "grace0-ms")
}

// Many machines, paused as soon as they run: the daemon's memory, listing, and finding them again.
func BenchmarkMany(b *testing.B) {
	n := node.Start(b, node.Options{})
	n.PullTiny(b)
	// One machine lives and goes first, so that what is needed once is not counted.
	warm := n.NewVM(b, "warm", nil)
	warm.Run(b)
	warm.Remove(b)
	time.Sleep(3 * time.Second)
	empty := n.DaemonRSS(b)
	var vms []*node.VM
	more := func(total int) {
		for len(vms) < total {
			vm := n.NewVM(b, fmt.Sprintf("many%d", len(vms)), nil)
			vm.Run(b)
			n.DialDebug(b, vm).Execute(b, "stop")
			vms = append(vms, vm)
		}
	}
	more(50)
	// What the starts needed for a moment goes back to the system by and by.
	time.Sleep(20 * time.Second)
	b.ReportMetric(float64(n.DaemonRSS(b)-empty)/50/1024, "KiB/vm")
	b.ReportMetric(float64(empty)/(1<<20), "empty-MiB")

	n.Kill9(b)
	begin := time.Now()
	n.Restart(b)
	b.ReportMetric(ms(time.Since(begin)), "answers-ms")
	adopted(b, vms)
	took := time.Since(begin)
	b.ReportMetric(ms(took), "adopted50-ms")
	b.ReportMetric(ms(took)/50, "adopted-ms/vm")

	more(100)
	var list []time.Duration
	for i := 0; i < 50; i++ {
		t := time.Now()
		r, err := n.Runtime.ListContainers(minute(b), &runtimeapi.ListContainersRequest{})
		list = append(list, time.Since(t))
		check(b, err)
		if len(r.Containers) != 100 {
			b.Fatalf("%d containers are listed", len(r.Containers))
		}
	}
	b.ReportMetric(ms(median(list)), "list100-ms")
	for _, vm := range vms {
		vm.Remove(b)
	}
	n.NoLeaks(b)
	b.ReportMetric(0, "ns/op")
}

// adopted waits until every machine is RUNNING and answers through its debug socket again.
func adopted(b *testing.B, vms []*node.VM) {
	b.Helper()
	for _, vm := range vms {
		node.Eventually(b, 20*time.Second, func() error {
			if s := vm.Status(b); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
				return fmt.Errorf("%s is %v", vm.ID, s.State)
			}
			_, err := os.Stat(filepath.Join(vm.Node.Dir, "run/vm", vm.ID[8:20], "debug.sock"))
			return err
		})
		vm.Node.DialDebug(b, vm).Execute(b, "query-name")
	}
}
