package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// BenchmarkLife measures RunPodSandbox, CreateContainer and StartContainer against the same done by hand, without and
// with masquerading; and StopContainer of a VM that cannot answer, because its virtual CPUs stand still, against telling
// a QEMU like it to quit.
//
// A VM is stopped at once, so that the next one finds the memory that it had: inside of a virtual machine, memory that was
// never used is slow at first. Its pod stays until the last one was started, as taking it away would disturb the starts
// that follow: the kernel takes network namespaces apart by and by, under locks that the making of others needs, and see
// awaitQuickFiles.
func BenchmarkLife(b *testing.B) {
	n, warm := workedNode(b)
	awaitQuickFiles(b, n.Dir)
	starts := map[bool]*start{}
	for _, masquerade := range []bool{false, true} {
		setMasquerade(b, n, masquerade)
		starts[masquerade] = &start{floor: newFloor(b, warm)}
	}
	var stops stops
	var pairs []pair
	for i := range *rounds {
		for _, masquerade := range []bool{false, true} {
			setMasquerade(b, n, masquerade)
			p := starts[masquerade].pair(b, n, i)
			stops.pair(b, p, i)
			pairs = append(pairs, p)
		}
	}
	for _, p := range pairs {
		p.vm.Remove(b)
		p.hand.end(b)
	}
	warm.Remove(b)
	n.NoLeaks(b)
	for _, masquerade := range []bool{false, true} {
		starts[masquerade].report(b, fmt.Sprintf("ipMasq=%v", masquerade))
	}
	stops.report(b)
}

// workedNode makes a node whose daemon has been at work before and logs as much as it does by default, and a VM of it
// that has ended.
func workedNode(b *testing.B) (*node.Node, *node.VM) {
	b.Helper()
	n := node.Start(b, node.Options{Args: []string{"--log-level", "info", "--debug-commands", "all"}})
	n.PullTiny(b)
	first := n.NewVM(b, "first", nil)
	first.Run(b)
	first.Remove(b)
	n.Mark(b)
	warm := n.NewVM(b, "warm", nil)
	warm.Run(b)
	warm.Stop(b, 0)
	return n, warm
}

// setMasquerade says in the node's CNI configuration whether pods' addresses are hidden from the world, which makes
// the bridge plugin call iptables.
func setMasquerade(b *testing.B, n *node.Node, on bool) {
	b.Helper()
	data, err := os.ReadFile(onlyFile(b, n.Dir, "cni/*.conflist"))
	must(b, err)
	var list map[string]any
	must(b, json.Unmarshal(data, &list))
	list["plugins"].([]any)[0].(map[string]any)["ipMasq"] = on
	data, err = json.Marshal(list)
	must(b, err)
	n.WriteCNI(b, string(data))
}

// awaitQuickFiles waits, up to three minutes, until files are made quickly below dir. After many files were deleted, by an
// earlier run perhaps, ext4 without a journal needs a minute or two before making one costs 0.1 ms again instead of 0.5.
func awaitQuickFiles(b *testing.B, dir string) {
	b.Helper()
	const quick = 0.2 // ms
	begin := time.Now()
	for round := 0; ; round++ {
		took := makeFiles(b, filepath.Join(dir, fmt.Sprintf("probe%d", round)))
		if took < quick || time.Since(begin) > 3*time.Minute {
			b.Logf("making a file takes %s ms, after waiting %v for that", number(took), time.Since(begin).Round(time.Second))
			return
		}
		time.Sleep(5 * time.Second)
	}
}

// makeFiles makes a few files in new folders, as pods have them, which stay, and returns how long it took to make a file,
// in milliseconds.
func makeFiles(b *testing.B, dir string) float64 {
	b.Helper()
	var took samples
	for i := range 30 {
		pod := filepath.Join(dir, strconv.Itoa(i/3), "vm")
		must(b, os.MkdirAll(pod, 0o755))
		begin := time.Now()
		f, err := os.Create(filepath.Join(pod, strconv.Itoa(i)))
		took.addTime(time.Since(begin))
		must(b, err)
		must(b, f.Close())
	}
	return took.median()
}

// start is what starting VMs took, by the daemon and by hand.
type start struct {
	phases
	floor *floor
}

// pair is a VM that the daemon has started and one that was started by hand, both paused.
type pair struct {
	vm   *node.VM
	hand *handMade
}

// pair starts both, each first in every other round.
func (s *start) pair(b *testing.B, n *node.Node, round int) (p pair) {
	b.Helper()
	byDaemon := func() {
		p.vm = n.NewVM(b, "pod", nil)
		s.run(b, p.vm)
		pause(b, p.vm)
	}
	byHand := func() {
		p.hand = s.floor.run(b)
		must(b, p.hand.qemu.monitor.execute("stop", nil))
	}
	alternate(round, byDaemon, byHand)
	return p
}

// alternate changes who goes first, so that neither is always in the other's wake.
func alternate(round int, a, b func()) {
	if round%2 == 1 {
		a, b = b, a
	}
	a()
	b()
}

// phases are the three calls that start a pod. ready is CreateContainer, with what passes of StartContainer until the
// machine's description is being written: root disk, seed and argument list are there by then.
type phases struct{ sandbox, create, start, ready, whole samples }

// run starts a VM through the daemon.
func (p *phases) run(b *testing.B, vm *node.VM) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begin := time.Now()
	must(b, vm.TrySandbox(ctx))
	sandbox := time.Now()
	must(b, vm.TryCreate(ctx))
	created := time.Now()
	described := watchMade(b, onlyFile(b, vm.Node.Dir, filepath.Join("state/pods", vm.Pod.Metadata.Uid, "[0-9a-f]*[0-9a-f]")))
	starting := time.Now()
	must(b, vm.TryStart(ctx))
	started := time.Now()
	moment := described.moment()
	if moment.IsZero() {
		b.Fatal("StartContainer has not described the machine")
	}
	p.sandbox.addTime(sandbox.Sub(begin))
	p.create.addTime(created.Sub(sandbox))
	p.start.addTime(started.Sub(starting))
	p.ready.addTime(created.Sub(sandbox) + moment.Sub(starting))
	p.whole.addTime(created.Sub(begin) + started.Sub(starting))
}

func (s *start) report(b *testing.B, variant string) {
	f := s.floor
	whole := row{what: "pod start, " + variant, unit: "ms", measured: s.whole, baseline: f.total, beside: "by hand", goal: goal{ratio: 1}}
	whole.report(b)
	whole.metric(b, "start-"+variant)
	network := f.took[stepNetns].plus(*f.took[stepLoopback]).plus(*f.took[stepBridge])
	disks := f.took[stepOverlay].plus(*f.took[stepSeed])
	for _, r := range []row{
		{what: "— RunPodSandbox", measured: s.sandbox, baseline: network, beside: "netns, CNI ADD"},
		{what: "— CreateContainer", measured: s.create, baseline: disks, beside: "qemu-img, genisoimage"},
		{what: "— CreateContainer, and until the arguments are ready", measured: s.ready, baseline: disks, beside: "qemu-img, genisoimage", goal: goal{ratio: 1, value: 15}},
		{what: "— StartContainer", measured: s.phases.start, baseline: *f.took[stepQEMU], beside: "QEMU until cont"},
	} {
		r.what, r.unit = r.what+", "+variant, "ms"
		r.report(b)
	}
	for _, step := range steps {
		b.Logf("by hand: %-28s %s", step, f.took[step].text("ms"))
	}
}

// stops is what it took to end VMs, by the daemon and by hand.
type stops struct{ daemon, quit samples }

// pair ends both, each first in every other round.
func (s *stops) pair(b *testing.B, p pair, round int) {
	b.Helper()
	byDaemon := func() { s.daemon.addTime(timed(b, func() error { p.vm.Stop(b, 0); return nil })) }
	byHand := func() { s.quit.addTime(timed(b, p.hand.qemu.quit)) }
	alternate(round, byDaemon, byHand)
}

func (s *stops) report(b *testing.B) {
	r := row{what: "StopContainer of a paused VM", unit: "ms", measured: s.daemon, baseline: s.quit, beside: "QMP quit"}
	r.report(b)
	r.metric(b, "stop")
}
