package e2e

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// execByAgent runs programs in a guest that has a guest agent.
func execByAgent(t *testing.T, vm *node.VM) {
	n := vm.Node
	exec := func(timeout int64, cmd ...string) (*runtimeapi.ExecSyncResponse, error) {
		return n.Runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: vm.ID, Cmd: cmd, Timeout: timeout})
	}
	got, err := exec(30, "sh", "-c", "hostname; echo to stderr >&2; exit 3")
	check(t, err)
	if got.ExitCode != 3 || string(got.Stdout) != "bookworm\n" || string(got.Stderr) != "to stderr\n" {
		t.Errorf("%v", got)
	}
	begin := time.Now()
	_, err = exec(1, "sleep", "60.25")
	if status.Code(err) != codes.DeadlineExceeded || time.Since(begin) > 10*time.Second {
		t.Errorf("a program that takes too long: %v after %v", err, time.Since(begin))
	}
	node.Eventually(t, 10*time.Second, func() error {
		got, err := exec(10, "sh", "-c", "! pgrep -f '^sleep 60.25'")
		if err == nil && got.ExitCode != 0 {
			err = status.Errorf(codes.Internal, "it still runs: %v", got)
		}
		return err
	})
	if _, err = exec(10, "/nosuch/program"); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "/nosuch/program") {
		t.Errorf("a program that is not there: %v", err)
	}
	if out := n.Crictl(t, "exec", vm.ID, "cat", "/etc/hostname"); out != "bookworm" {
		t.Errorf("crictl exec: %q", out)
	}
	n.Kill9(t)
	n.StartDaemon(t)
	if out := n.Crictl(t, "exec", "--sync", vm.ID, "hostname"); out != "bookworm" {
		t.Errorf("crictl exec --sync after a restart of the daemon: %q", out)
	}
}

// A guest that has no agent, or does not have it yet, has not failed its probe.
func execWithoutAgent(t *testing.T, vm *node.VM) {
	_, err := vm.Node.Runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: vm.ID, Cmd: []string{"true"}, Timeout: 1})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "install and start qemu-guest-agent") {
		t.Errorf("%v", err)
	}
	mentions(t, vm.Node.CrictlFails(t, "exec", "-it", vm.ID, "sh"), "tty", "attach")
}

// A guest that boots again has another agent, which knows nothing of what was asked of the one before.
func TestExecAfterReboot(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	vm := sharesVM(t, n, "again", nil)
	vm.Run(t)
	vm.WaitReady(t)
	exec := func(cmd ...string) error {
		_, err := n.Runtime.ExecSync(t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: vm.ID, Cmd: cmd, Timeout: 60})
		return err
	}
	check(t, exec("true"))
	under := make(chan error, 1)
	go func() { under <- exec("sh", "-c", "touch /run/under; sleep 50.5") }()
	c := vm.Attach(t)
	c.Send("until [ -e /run/under ]; do sleep 0.1; done; reboot -f\n")
	c.Expect(`@@GUEST boot .* count=2`, node.BootLimit)
	c.Expect(`@@GUEST ready`, node.BootLimit)
	begin := time.Now()
	node.Eventually(t, 30*time.Second, func() error { return exec("true") })
	t.Logf("after %v; what was under way: %v", time.Since(begin), <-under)
	vm.Remove(t)
	n.NoLeaks(t)
}
