package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// What libvirt 9.0 needs on the machine that the goals were set on (2 cores, TCG).
const (
	libvirtRestartPerVM = 343.0 / 30 // ms from the start of libvirtd until it has adopted 30 domains, for each
	readoptions         = 11         // how often the daemon is killed
	listings            = 201        // how often containers are listed
)

// BenchmarkMany measures what many VMs at the same time cost: the daemon's memory, finding them again after the
// daemon was killed, and listing them.
func BenchmarkMany(b *testing.B) {
	n := node.Start(b, node.Options{Args: []string{"--log-level", "info", "--debug-commands", "all"}})
	pullBlank(b, n)
	first := blankVM(b, n, 0)
	first.Run(b)
	first.Remove(b)
	n.Mark(b)
	empty := restartEmpty(b, n)
	vms := startFleet(b, n)
	full := memoryOf(b, n.DaemonPID())
	empty.reportMemory(b, "started", full)
	adopted := benchmarkReadoption(b, n, vms, &empty)
	empty.reportMemory(b, "adopted", adopted)

	vms = append(vms, moreContainers(b, n, 2**fleet-len(vms))...)
	benchmarkList(b, n, len(vms))
	for _, vm := range vms {
		vm.Remove(b)
	}
	n.NoLeaks(b)
}

// pullBlank has the node pull an image that nothing can boot from: firmware that has given up is all that runs.
func pullBlank(b *testing.B, n *node.Node) {
	b.Helper()
	path := filepath.Join(n.Dir, "blank.qcow2")
	out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "1M").CombinedOutput()
	if err != nil {
		b.Fatalf("qemu-img create: %v: %s", err, out)
	}
	n.Web.File(b, "blank", path)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = n.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/blank"}})
	must(b, err)
}

// blankVM is a small VM with that image.
func blankVM(b *testing.B, n *node.Node, i int) *node.VM {
	b.Helper()
	return n.NewVM(b, fmt.Sprintf("blank%d", i), func(vm *node.VM) {
		vm.Config.Image.Image, vm.Config.Image.UserSpecifiedImage = "virtlet.cloud/blank", "virtlet.cloud/blank"
		vm.Config.Linux.Resources.MemoryLimitInBytes = 32 << 20
	})
}

// startFleet starts VMs one after another and stops their virtual CPUs, for the machine has few of its own.
func startFleet(b *testing.B, n *node.Node) []*node.VM {
	b.Helper()
	var p phases
	var vms []*node.VM
	for i := range *fleet {
		vm := blankVM(b, n, i+1)
		p.run(b, vm)
		pause(b, vm)
		vms = append(vms, vm)
	}
	tenth := max(len(vms)/5, 1)
	r := row{what: fmt.Sprintf("pod start beside %d to %d other VMs", len(vms)-tenth, len(vms)-1), unit: "ms",
		measured: p.whole[len(vms)-tenth:], baseline: samples{p.whole[:tenth].median()}, beside: fmt.Sprintf("beside 0 to %d", tenth-1)}
	r.report(b)
	return vms
}

// moreContainers makes pods whose VM is created and not started.
func moreContainers(b *testing.B, n *node.Node, count int) []*node.VM {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(max(count, 1))*patience)
	defer cancel()
	var vms []*node.VM
	for i := range count {
		vm := blankVM(b, n, *fleet+i+1)
		must(b, vm.TrySandbox(ctx))
		must(b, vm.TryCreate(ctx))
		vms = append(vms, vm)
	}
	return vms
}

// memory is what a process has of it, in KiB.
type memory struct{ rss, private float64 }

func memoryOf(b *testing.B, pid int) memory {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	must(b, err)
	var m memory
	for _, line := range strings.Split(string(data), "\n") {
		var kib float64
		if _, err := fmt.Sscanf(line, "Rss: %f kB", &kib); err == nil {
			m.rss = kib
		}
		if _, err := fmt.Sscanf(line, "Private_Dirty: %f kB", &kib); err == nil {
			m.private = kib
		}
	}
	if m.rss == 0 || m.private == 0 {
		b.Fatalf("no memory in %s", data)
	}
	return m
}

// emptyDaemon is a daemon without VMs.
type emptyDaemon struct {
	memory memory
	start  samples // until it answers
}

// restartEmpty measures what a daemon needs that has nothing to do.
func restartEmpty(b *testing.B, n *node.Node) emptyDaemon {
	b.Helper()
	var e emptyDaemon
	for range readoptions {
		n.Kill9(b)
		e.start.addTime(restart(b, n, 0))
	}
	e.memory = memoryOf(b, n.DaemonPID())
	return e
}

func (e emptyDaemon) reportMemory(b *testing.B, of string, with memory) {
	b.Helper()
	without, vms := e.memory, float64(*fleet)
	b.Logf("daemon's memory in KiB: %+v without VMs, %+v with %d VMs %s", without, with, *fleet, of)
	r := row{what: fmt.Sprintf("daemon's memory for each of %d VMs %s", *fleet, of), unit: "KiB", measured: samples{(with.rss - without.rss) / vms}, goal: goal{value: 300}}
	r.report(b)
	r.metric(b, "memory-"+of)
	row{what: "— without what is shared with its program file", unit: "KiB", measured: samples{(with.private - without.private) / vms}}.report(b)
}

// benchmarkReadoption kills the daemon and starts it again, and returns its memory after the last time. In between,
// when nobody is connected to the monitors, it asks each of them for its status one after another.
func benchmarkReadoption(b *testing.B, n *node.Node, vms []*node.VM, empty *emptyDaemon) memory {
	b.Helper()
	var whole, perVM, byHand, usable samples
	for range readoptions {
		n.Kill9(b)
		byHand.addTime(timed(b, func() error { return askAll(vms) }))
		took := restart(b, n, len(vms))
		whole.addTime(took)
		usable.addTime(took + timed(b, func() error { return answerAll(vms) }))
	}
	m := memoryOf(b, n.DaemonPID())
	for _, w := range whole {
		perVM.add(w / float64(len(vms)))
	}
	r := row{what: fmt.Sprintf("re-adoption of %d VMs, for each", len(vms)), unit: "ms", measured: perVM,
		baseline: samples{libvirtRestartPerVM}, beside: "libvirtd", goal: goal{ratio: 0.5}}
	r.report(b)
	r.metric(b, "adopt")
	for _, r := range []row{
		{what: "— of all, from exec until listed as running", measured: whole, baseline: byHand, beside: "asking each monitor, by hand"},
		{what: "— start of a daemon without VMs", measured: empty.start},
		{what: "— until each debug socket has answered as well", measured: usable},
	} {
		r.unit = "ms"
		r.report(b)
	}
	return m
}

// restart starts the daemon again and returns how long it took, from exec, until it listed so many running containers.
func restart(b *testing.B, n *node.Node, running int) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	type answer struct {
		at  time.Time
		err error
	}
	answered := make(chan answer, 1)
	begin := time.Now()
	go func() {
		err := waitRunning(ctx, n.Socket(), running)
		answered <- answer{time.Now(), err}
	}()
	n.Restart(b)
	a := <-answered
	must(b, a.err)
	return a.at.Sub(begin)
}

// waitRunning connects as soon as somebody listens: gRPC by itself would wait longer and longer between its attempts.
func waitRunning(ctx context.Context, socket string, running int) error {
	first, err := dialSoon(ctx, socket)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:daemon", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return first, nil }))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	list, err := client.ListContainers(ctx, &runtimeapi.ListContainersRequest{
		Filter: &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}},
	})
	if err == nil && len(list.Containers) != running {
		err = fmt.Errorf("the daemon answers and lists %d running containers, expected %d", len(list.Containers), running)
	}
	return err
}

// dialSoon tries every half millisecond: a socket that nobody listens on yet gives no sign when that changes.
func dialSoon(ctx context.Context, socket string) (net.Conn, error) {
	again := time.NewTicker(500 * time.Microsecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// askAll does by hand what adoption cannot do without: connect to each monitor, and ask.
func askAll(vms []*node.VM) error {
	for _, vm := range vms {
		m, err := dialMonitor(filepath.Join(filepath.Dir(debugSocket(vm)), "qmp.sock"))
		if err != nil {
			return fmt.Errorf("VM %s: %w", vm.ID, err)
		}
		err = m.execute("query-status", nil)
		m.close()
		if err != nil {
			return fmt.Errorf("VM %s: %w", vm.ID, err)
		}
	}
	return nil
}

// answerAll makes sure that the daemon is connected to each VM's monitor and console.
func answerAll(vms []*node.VM) error {
	for _, vm := range vms {
		if err := answers(vm); err != nil {
			return fmt.Errorf("VM %s: %w", vm.ID, err)
		}
	}
	return nil
}

func answers(vm *node.VM) error {
	m, err := dialMonitor(debugSocket(vm))
	if err != nil {
		return err
	}
	defer m.close()
	var chardevs []struct{ Label, Filename string }
	if err := m.execute("query-chardev", &chardevs); err != nil {
		return err
	}
	connected := map[string]bool{}
	for _, c := range chardevs {
		connected[c.Label] = !strings.HasPrefix(c.Filename, "disconnected:")
	}
	if !connected["qmp"] || !connected["console"] {
		return fmt.Errorf("the daemon is not connected to all of it: %+v", chardevs)
	}
	return nil
}

// benchmarkList lists all containers, beside the least call there is.
func benchmarkList(b *testing.B, n *node.Node, count int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var list, version samples
	for range listings {
		version.addTime(timed(b, func() error {
			_, err := n.Runtime.Version(ctx, &runtimeapi.VersionRequest{})
			return err
		}))
		list.addTime(timed(b, func() error {
			r, err := n.Runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
			if err == nil && len(r.Containers) != count {
				err = fmt.Errorf("%d containers are listed, expected %d", len(r.Containers), count)
			}
			return err
		}))
	}
	r := row{what: fmt.Sprintf("ListContainers over %d VMs", count), unit: "ms", measured: list, baseline: version, beside: "Version", goal: goal{value: 5}}
	r.report(b)
	r.metric(b, "list")
}
