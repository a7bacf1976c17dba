package e2e

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// The ways a VM can end, each with its reason and time.

func TestGuestPowersOff(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "leaves", nil)
	vm.Run(t)
	vm.WaitReady(t)
	c := vm.Attach(t)
	c.Command("true")
	before := time.Now()
	c.Send("poweroff -f\n")
	s, seen := vm.WaitExited(t, 20*time.Second)
	checkEnding(t, s, before, seen)
	if s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("exit code %d, reason %q, message %q", s.ExitCode, s.Reason, s.Message)
	}
	// Whoever watched the console sees its end.
	c.Wait(5 * time.Second)
	if q := n.QEMUs(); len(q) != 0 {
		t.Errorf("EXITED, but %v runs", q)
	}

	// The root disk is the pod's: the next attempt boots it again.
	vm.WaitLog(t, `^@@GUEST boot .* count=1$`, time.Second)
	again := *vm
	again.Config = proto.Clone(vm.Config).(*runtimeapi.ContainerConfig)
	again.Config.Metadata.Attempt = 1
	again.Config.LogPath = "vm/1.log"
	again.LogPath = strings.TrimSuffix(vm.LogPath, "0.log") + "1.log"
	check(t, again.TryCreate(seconds(t, 30)))
	check(t, again.TryStart(seconds(t, 30)))
	again.WaitLog(t, `^@@GUEST boot .* count=2$`, node.BootLimit)
	again.Stop(t, 0)
	vm.Remove(t)
	n.NoLeaks(t)
}

// A reboot is no end.
func TestGuestReboots(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "reboots", nil)
	vm.Run(t)
	vm.WaitReady(t)
	qemu := n.QEMUs()
	c := vm.Attach(t)
	c.Command("true")
	c.Send("reboot -f\n")
	c.Expect(`@@GUEST boot .* count=2`, node.BootLimit)
	c.Expect(`@@GUEST ready`, node.BootLimit)
	s := vm.Status(t)
	if after := n.QEMUs(); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING || len(after) != 1 || len(qemu) != 1 || after[0].PID != qemu[0].PID {
		t.Errorf("after a reboot: %v, %v, before %v", s.State, after, qemu)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

func TestGuestIgnoresPowerButton(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "stubborn", nil)
	vm.Run(t)
	vm.WaitReady(t)
	vm.Attach(t).Command("touch /run/ignore-power")
	begin := time.Now()
	vm.Stop(t, 3)
	took := time.Since(begin)
	if took < 3*time.Second || took > 6*time.Second {
		t.Errorf("stopping took %v with a grace period of 3 s", took)
	}
	s := vm.Status(t)
	checkEnding(t, s, begin, time.Now())
	if s.ExitCode != 137 {
		t.Errorf("exit code %d, reason %q", s.ExitCode, s.Reason)
	}
	vm.WaitLog(t, `^@@GUEST powerbutton ignored=yes`, time.Second)
	vm.Remove(t)
	n.NoLeaks(t)
}

// A short stop cuts a long one short.
func TestStopEscalates(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "impatient", nil)
	vm.Run(t)
	vm.WaitReady(t)
	vm.Attach(t).Command("touch /run/ignore-power")
	long := make(chan error, 1)
	go func() {
		_, err := n.Runtime.StopContainer(seconds(t, 100), &runtimeapi.StopContainerRequest{ContainerId: vm.ID, Timeout: 60})
		long <- err
	}()
	vm.WaitLog(t, `^@@GUEST powerbutton`, 20*time.Second)
	begin := time.Now()
	vm.Stop(t, 0)
	select {
	case err := <-long:
		check(t, err)
	case <-time.After(5 * time.Second):
		t.Error("the first stop goes on after the machine has ended")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a stop without grace took %v", took)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

func TestQEMUIsKilled(t *testing.T) {
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "shot", nil)
	vm.Run(t)
	vm.WaitReady(t)
	qemu := n.QEMUs()
	if len(qemu) != 1 {
		t.Fatalf("QEMU processes: %v", qemu)
	}
	at := qemu[0].Kill9()
	s, seen := vm.WaitExited(t, 5*time.Second)
	if late := seen.Sub(at); late > 200*time.Millisecond {
		t.Errorf("noticed %v after the kill", late)
	}
	checkEnding(t, s, at, seen)
	if s.ExitCode != 137 || s.Reason != "QEMUKilled" {
		t.Errorf("exit code %d, reason %q, message %q", s.ExitCode, s.Reason, s.Message)
	}
	mentions(t, s.Message, "QEMU")
	vm.Remove(t)
	n.NoLeaks(t)
}

func TestGuestPanics(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "panics", nil)
	vm.Run(t)
	vm.WaitReady(t)
	c := vm.Attach(t)
	c.Command("true")
	begin := time.Now()
	c.Send("echo c >/proc/sysrq-trigger\n")
	s, seen := vm.WaitExited(t, 20*time.Second)
	checkEnding(t, s, begin, seen)
	if s.ExitCode == 0 {
		t.Error("a panic is no success")
	}
	mentions(t, s.Reason+" "+s.Message, "panic")
	// The last words are in the log.
	vm.WaitLog(t, `Kernel panic - not syncing`, 2*time.Second)
	vm.Remove(t)
	n.NoLeaks(t)
}

// checkEnding holds an ended container's times to what was seen from outside.
func checkEnding(t *testing.T, s *runtimeapi.ContainerStatus, after, before time.Time) {
	t.Helper()
	finished := time.Unix(0, s.FinishedAt)
	// QEMU stamps with microseconds.
	if s.State != runtimeapi.ContainerState_CONTAINER_EXITED || finished.Before(after.Add(-time.Millisecond)) || finished.After(before) ||
		s.StartedAt > s.FinishedAt || s.CreatedAt > s.StartedAt {
		t.Errorf("%v, finished %v, expected between %v and %v", s, finished, after, before)
	}
	if s.Reason == "" {
		t.Error("no reason")
	}
}
