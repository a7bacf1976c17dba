package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// The daemon may die at any moment. Its machines never notice, and its successor knows everything that matters.

func TestDaemonKilledWhileVMRuns(t *testing.T) {
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "survivor", nil)
	vm.Run(t)
	vm.WaitReady(t)
	vm.WaitNetwork(t)
	before := vm.WaitInfo(t)
	qemu := n.QEMUs()
	ip := vm.IP(t)

	// A line about every 20 ms, before, during and after the daemon's absence; the shell stays usable beside it.
	const count = 300
	c := vm.Attach(t)
	c.Command(fmt.Sprintf("(i=0; while [ $i -lt %d ]; do i=$((i+1)); echo tick $i; usleep 10000; done; echo ticked) >/dev/console &", count))
	vm.WaitLog(t, `^tick 20$`, 20*time.Second)
	n.Kill9(t)
	// The console connection went with the daemon; the machine and its network did not.
	c.Wait(10 * time.Second)
	during, err := n.Info(ip)
	check(t, err)
	lines, err := node.ReadLog(vm.LogPath)
	check(t, err)
	atKill := len(lines)
	// The guest must have gone on talking while nobody listened.
	uptime := seconds64(t, during["uptime"])
	node.Eventually(t, 20*time.Second, func() error {
		info, err := n.Info(ip)
		if err == nil && seconds64(t, info["uptime"]) < uptime+2 {
			err = errors.New("not yet two seconds")
		}
		return err
	})
	n.Restart(t)

	s := vm.Status(t)
	if s.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Fatalf("after the restart the container is %v: %s %s", s.State, s.Reason, s.Message)
	}
	vm.WaitLog(t, `^ticked$`, 60*time.Second)
	checkTicks(t, vm.LogPath, count)
	if lines, err := node.ReadLog(vm.LogPath); err != nil || len(lines) <= atKill {
		t.Errorf("the log has %d lines, had %d at the kill (%v)", len(lines), atKill, err)
	}
	after := vm.WaitInfo(t)
	if after["boot_id"] != before["boot_id"] || during["boot_id"] != before["boot_id"] {
		t.Errorf("the guest has booted in between: %v, %v, %v", before["boot_id"], during["boot_id"], after["boot_id"])
	}
	if now := n.QEMUs(); len(now) != 1 || now[0].PID != qemu[0].PID {
		t.Errorf("QEMU was %v, is %v", qemu, now)
	}

	c = vm.Attach(t)
	if got := c.Command("hostname"); got != "survivor" {
		t.Errorf("hostname typed after the restart: %q", got)
	}
	// udhcpc renews at this signal.
	c.Command("kill -USR1 $(cat /run/udhcpc.eth0.pid)")
	vm.WaitLog(t, `^@@GUEST dhcp eth0 renew ip=`+strings.ReplaceAll(ip, ".", `\.`)+`/24 `, 20*time.Second)
	vm.Stop(t, 30)
	if s := vm.Status(t); s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("stopped after the restart: exit code %d, reason %q, message %q", s.ExitCode, s.Reason, s.Message)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// checkTicks wants every "tick N" up to count in the log, once and in order.
func checkTicks(t *testing.T, path string, count int) {
	t.Helper()
	lines, err := node.ReadLog(path)
	check(t, err)
	tick := regexp.MustCompile(`tick ([0-9]+)$`)
	next := 1
	for _, l := range lines {
		m := tick.FindStringSubmatch(l.Text)
		if m == nil {
			continue
		}
		if got, _ := strconv.Atoi(m[1]); got != next {
			t.Fatalf("the log has tick %d where tick %d was due", got, next)
		}
		next++
	}
	if next != count+1 {
		t.Errorf("the log ends at tick %d of %d", next-1, count)
	}
}

func seconds64(t testing.TB, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	check(t, err)
	return v
}

// A daemon that was asked to end does so, leaves its machines alone, and finds them again.
func TestDaemonRestartsInOrder(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "upgraded", nil)
	vm.Run(t)
	vm.WaitReady(t)
	before := vm.WaitInfo(t)
	n.Stop(t)
	n.Restart(t)
	if after := vm.WaitInfo(t); after["boot_id"] != before["boot_id"] {
		t.Error("the guest has booted in between")
	}
	if got := vm.Attach(t).Command("echo $((6*7))"); got != "42" {
		t.Errorf("the console answers %q", got)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// What became of a machine while nobody watched is known all the same.
func TestEndingWhileDaemonIsDown(t *testing.T) {
	for name, c := range map[string]struct {
		command, reason string
		code            int32
	}{
		"poweroff": {"poweroff -f", "Completed", 0},
		"panic":    {"echo c >/proc/sysrq-trigger", "GuestPanic", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := node.Start(t, node.Options{})
			n.PullTiny(t)
			vm := n.NewVM(t, name, nil)
			vm.Run(t)
			vm.WaitReady(t)
			vm.WaitNetwork(t)
			vm.WaitInfo(t)
			ip := vm.IP(t)
			vm.Attach(t).Command("(sleep 2; echo going down >/dev/console; " + c.command + ") >/dev/null 2>&1 &")
			n.Kill9(t)
			down := time.Now()
			var gone time.Time
			node.Eventually(t, 30*time.Second, func() error {
				if _, err := n.Info(ip); err == nil {
					return errors.New("the guest still answers")
				}
				gone = time.Now()
				return nil
			})
			n.Restart(t)
			s, _ := vm.WaitExited(t, 5*time.Second)
			// The last successful request to the guest may be as old as one request takes to fail.
			checkEnding(t, s, down, gone.Add(500*time.Millisecond))
			if s.Reason != c.reason || s.ExitCode != c.code {
				t.Errorf("exit code %d, reason %q, message %q", s.ExitCode, s.Reason, s.Message)
			}
			vm.WaitLog(t, `^going down$`, 2*time.Second)
			node.Eventually(t, 5*time.Second, func() error {
				if q := n.QEMUs(); len(q) > 0 {
					return fmt.Errorf("EXITED, but %v runs", q)
				}
				return nil
			})
			vm.Remove(t)
			n.NoLeaks(t)
		})
	}
}

// QEMU itself dies while nobody watches.
func TestQEMUIsKilledWhileDaemonIsDown(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "both", nil)
	vm.Run(t)
	n.Kill9(t)
	for _, q := range n.QEMUs() {
		q.Kill9()
	}
	n.Restart(t)
	s, _ := vm.WaitExited(t, 5*time.Second)
	if s.ExitCode == 0 || s.Reason == "" || s.FinishedAt < s.StartedAt {
		t.Errorf("%v", s)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// The crash matrix: the daemon is killed with SIGKILL at every named step of a pod's life. The next daemon must converge:
// every object that it lists is in a state of CRI's, no QEMU runs without a RUNNING container, everything can be removed
// and is then gone, and the same pod can be run once more.
func TestCrashAtEveryStep(t *testing.T) {
	n := node.Start(t, node.Options{Binary: node.FailpointBinary(t), Env: []string{node.FailpointEnv}})
	n.PullTiny(t)
	points := n.Failpoints(t)
	checkFailpointsInSource(t, points)
	for _, point := range points {
		t.Run(point, func(t *testing.T) { crashAt(t, n, point) })
		if t.Failed() {
			// What one left behind would be blamed on the next.
			break
		}
	}
}

// checkFailpointsInSource makes sure that the list is complete: a failpoint in a package that the daemon does not link
// would never be tried.
func checkFailpointsInSource(t *testing.T, points []string) {
	t.Helper()
	known := map[string]bool{}
	for _, p := range points {
		known[p] = true
	}
	declared := regexp.MustCompile(`(?m)^\s*// gofail: var (\w+) `)
	found := 0
	for _, top := range []string{"internal", "qemu", "qmp", "netns", "disks", "cloudinit", "cmd"} {
		check(t, filepath.Walk(filepath.Join(node.Top(), top), func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(data, -1) {
				found++
				if name := string(m[1]); !known[name] {
					t.Errorf("failpoint %s is in the source, but not in the daemon", name)
				}
			}
			return err
		}))
	}
	if found == 0 {
		t.Fatal("there are no failpoints")
	}
}

func crashAt(t *testing.T, n *node.Node, point string) {
	vm := n.NewVM(t, "crash", nil)
	vm.FlexVolume(t, "data", map[string]string{"type": "qcow2", "capacity": "4MiB"})
	if strings.Contains(strings.ToLower(point), "rootdevice") {
		vm = n.NewVM(t, "crash", func(vm *node.VM) { vm.Device("/", n.DiskFile(t, "root", 32<<20), "mrw") })
	}
	if !crashInLife(t, n, vm, point) && !crashInRecovery(t, n, vm, point) {
		t.Fatalf("neither a pod's life nor a restart comes to failpoint %s", point)
	}
	n.Restart(t)
	converged(t, n)
	removeAll(t, n)
	n.NoLeaks(t)

	// The same pod again, as kubelet would: same metadata, same attempt.
	if err := live(seconds(t, 60), vm); err != nil {
		t.Fatalf("the same pod, after the crash: %v", err)
	}
	n.NoLeaks(t)
}

// crashInLife kills the daemon when a pod's life comes to the failpoint; false if it never does.
func crashInLife(t *testing.T, n *node.Node, vm *node.VM, point string) bool {
	t.Helper()
	n.Hold(t, point)
	ended := make(chan error, 1)
	go func() { ended <- live(seconds(t, 60), vm) }()
	for !n.Held(point) {
		select {
		case err := <-ended:
			check(t, err)
			if !n.Held(point) {
				return false
			}
			ended <- err
		case <-time.After(5 * time.Millisecond):
		}
	}
	n.Kill9(t)
	<-ended
	return true
}

// crashInRecovery kills the daemon while a machine runs, and the next one when it comes to the failpoint.
func crashInRecovery(t *testing.T, n *node.Node, vm *node.VM, point string) bool {
	t.Helper()
	vm.Run(t)
	n.Kill9(t)
	held := n.RestartHeld(t, point)
	n.Kill9(t)
	return held
}

// live has a pod live and go, and returns the first error.
func live(ctx context.Context, vm *node.VM) error {
	n := vm.Node
	if err := vm.TryRun(ctx); err != nil {
		return err
	}
	if q := n.QEMUs(); len(q) != 1 {
		return fmt.Errorf("started, but the QEMU processes are %v", q)
	}
	if _, err := n.Runtime.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: vm.ID, Timeout: 1}); err != nil {
		return err
	}
	if _, err := n.Runtime.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: vm.ID}); err != nil {
		return err
	}
	if _, err := n.Runtime.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: vm.PodID}); err != nil {
		return err
	}
	_, err := n.Runtime.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: vm.PodID})
	return err
}

// converged waits until the QEMU processes are those of the RUNNING containers.
func converged(t *testing.T, n *node.Node) {
	t.Helper()
	node.Eventually(t, 10*time.Second, func() error {
		list, err := n.Runtime.ListContainers(seconds(t, 10), &runtimeapi.ListContainersRequest{})
		if err != nil {
			return err
		}
		running := 0
		for _, c := range list.Containers {
			switch c.State {
			case runtimeapi.ContainerState_CONTAINER_RUNNING:
				running++
			case runtimeapi.ContainerState_CONTAINER_UNKNOWN:
				return fmt.Errorf("container %s is UNKNOWN", c.Id)
			}
		}
		if q := n.QEMUs(); len(q) != running {
			return fmt.Errorf("%d containers are RUNNING, but the QEMU processes are %v", running, q)
		}
		return nil
	})
}

// removeAll removes whatever the daemon lists, as kubelet does with pods it does not know.
func removeAll(t *testing.T, n *node.Node) {
	t.Helper()
	list, err := n.Runtime.ListPodSandbox(seconds(t, 10), &runtimeapi.ListPodSandboxRequest{})
	check(t, err)
	for _, p := range list.Items {
		_, err := n.Runtime.StopPodSandbox(seconds(t, 30), &runtimeapi.StopPodSandboxRequest{PodSandboxId: p.Id})
		check(t, err)
		_, err = n.Runtime.RemovePodSandbox(seconds(t, 30), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: p.Id})
		check(t, err)
	}
	left, err := n.Runtime.ListContainers(seconds(t, 10), &runtimeapi.ListContainersRequest{})
	check(t, err)
	if len(left.Containers) > 0 {
		t.Errorf("containers without a sandbox: %v", left.Containers)
	}
}
