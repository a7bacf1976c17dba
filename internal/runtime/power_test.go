package runtime

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/qmp"
)

func (n *testNode) wantRunState(sandbox string, want RunState) {
	n.t.Helper()
	look, err := n.Look(n.t.Context(), sandbox)
	n.must(err)
	if look.RunState != want {
		n.t.Fatalf("the run state is %q, want %q", look.RunState, want)
	}
}

// For kubelet a suspended VM runs, also after a restart of the daemon, and it can
// be stopped as any other.
func TestSuspend(t *testing.T) {
	n := newTestNode(t)
	n.image("obeys", guestObeys)
	sandbox, id := n.boot("obeys")
	n.wantRunState(sandbox, "running")
	for range 2 {
		n.must(n.Suspend(t.Context(), id))
		n.wantRunState(sandbox, Suspended)
		n.wantState(id, running, "")
	}
	n.crash(nil)
	n.wantRunState(sandbox, Suspended)
	for range 2 {
		n.must(n.Resume(t.Context(), id))
		n.wantRunState(sandbox, "running")
	}
	n.must(n.Suspend(t.Context(), id))
	n.must(n.StopContainer(t.Context(), id, 30*time.Second))
	n.wantState(id, exited, "Completed")
}

// awaitBoot waits until the guest's own code runs, which the firmware loads at 0x7c00. Reset twice before that, SeaBIOS does not
// always come up again.
func (n *testNode) awaitBoot(id string) {
	n.t.Helper()
	n.eventually("the guest boots", func() bool {
		_, m, err := n.machineOf(id, "look at")
		n.must(err)
		var registers string
		n.must(m.QMP().Do(n.t.Context(), qmp.HumanMonitor, map[string]string{"command-line": "info registers"}, &registers))
		return strings.Contains(registers, "EIP=00007c")
	})
}

// A reset is none of kubelet's business, and lets a suspended VM go on.
func TestReset(t *testing.T) {
	n := newTestNode(t)
	n.image("obeys", guestObeys)
	sandbox, id := n.boot("obeys")
	n.awaitBoot(id)
	n.must(n.Reset(t.Context(), id))
	n.wantRunState(sandbox, "running")
	n.awaitBoot(id)
	n.must(n.Suspend(t.Context(), id))
	n.must(n.Reset(t.Context(), id))
	n.eventually("the guest runs after a reset", func() bool {
		look, err := n.Look(t.Context(), sandbox)
		return err == nil && look.RunState == "running"
	})
	n.wantState(id, running, "")
	n.awaitBoot(id)
	n.must(n.Suspend(t.Context(), id))
	n.must(n.StopContainer(t.Context(), id, 30*time.Second))
	n.wantState(id, exited, "Completed")
}

func TestPowerDown(t *testing.T) {
	n := newTestNode(t)
	n.image("obeys", guestObeys)
	_, id := n.boot("obeys")
	n.must(n.Suspend(t.Context(), id))
	// The guest of this test looks at the button all the time once it runs.
	n.eventually("the guest powers off", func() bool {
		err := n.PowerDown(t.Context(), id)
		return err != nil && errdefs.IsFailedPrecondition(err)
	})
	n.awaitEnd(id)
	n.wantState(id, exited, "Completed")
	for name, f := range map[string]func() error{
		"suspend":  func() error { return n.Suspend(t.Context(), id) },
		"resume":   func() error { return n.Resume(t.Context(), id) },
		"reset":    func() error { return n.Reset(t.Context(), id) },
		"shutdown": func() error { return n.PowerDown(t.Context(), id) },
	} {
		if err := f(); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s of an ended VM: %v", name, err)
		}
	}
	if err := n.Reset(t.Context(), "ff"); !errdefs.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
}

func TestDetailsAndAnswers(t *testing.T) {
	n := newTestNode(t)
	n.image("ignores", guestIgnores)
	_, id := n.boot("ignores")
	d, err := n.Details(id)
	n.must(err)
	if d.PID != n.pid(id) || len(d.Config) == 0 || d.Machine == "" || d.CgroupPath == "" || len(d.Interfaces) != 1 {
		t.Errorf("%+v", d)
	}
	a, err := n.Ask(t.Context(), id)
	n.must(err)
	if len(a.Disks) < 2 || len(a.DiskStats) < 2 || len(a.CPUs) != 1 {
		t.Errorf("%+v", a)
	}
	n.must(n.StopContainer(t.Context(), id, 0))
	if d, err = n.Details(id); err != nil || d.PID != 0 || len(d.Config) == 0 {
		t.Errorf("of an ended VM: %+v, %v", d, err)
	}
	if a, err = n.Ask(t.Context(), id); err != nil || len(a.Disks) != 0 {
		t.Errorf("of an ended VM: %+v, %v", a, err)
	}
	if _, err := n.Details("ff"); !errdefs.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
	if _, err := n.Ask(t.Context(), "ff"); !errdefs.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
	if _, err := n.Look(t.Context(), "ff"); !errdefs.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
}
