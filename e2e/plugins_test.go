package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// halfwayPlugin is one at the end of a chain that makes half of its work, a link, and hangs in a program that it calls, as long as there
// is a file "hang" beside it; with a file "stuck" it cannot undo its work.
const halfwayPlugin = `here=$(dirname "$0")
conf=$(cat)
case "$CNI_COMMAND" in
ADD)
	ip link add half0 type veth peer name half1 && ip link set half1 netns "$CNI_NETNS"
	[ -e "$here/hang" ] && { touch "$here/started"; sleep 1000; ip link add half2 type bridge; }
	printf %s "$conf" | sed 's/.*"prevResult"://; s/,"type":"halfway"}$//' ;;
DEL)
	[ -e "$here/stuck" ] && { echo '{"cniVersion":"1.0.0","code":11,"msg":"the lock is rusty"}'; exit 1; }
	ip link del half0 2>/dev/null
	exit 0 ;;
esac
`

// TestPluginsThatStopHalfway: who waits for a plugin that hangs, a client with a deadline or the daemon itself that is killed, leaves
// nothing behind; and a plugin that cannot undo its work is asked until it can.
func TestPluginsThatStopHalfway(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{Args: []string{"--cni-timeout", "8s"}})
	n.WritePlugin(t, "halfway", halfwayPlugin)
	conf := n.BridgeConfig("")
	last := strings.LastIndex(conf, "}]")
	n.WriteCNI(t, conf[:last]+`}, {"type": "halfway"}`+conf[last+1:])
	file := func(name string) string { return filepath.Join(n.Dir, "plugins", name) }
	vm := n.NewVM(t, "half", nil)

	t.Run("a client's deadline", func(t *testing.T) {
		check(t, os.WriteFile(file("hang"), nil, 0o600))
		if err := vm.TrySandbox(seconds(t, 1)); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("with a second's deadline: %v", err)
		}
		err := vm.TrySandbox(seconds(t, 30))
		if err == nil {
			t.Fatal("the sandbox runs")
		}
		mentions(t, err.Error(), "halfway", "did not finish within 8s")
		removeAll(t, n)
		n.NoLeaks(t)
	})
	t.Run("the daemon's death", func(t *testing.T) {
		os.Remove(file("started"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = vm.TrySandbox(seconds(t, 30)) // ends with the daemon
		}()
		node.Eventually(t, 20*time.Second, func() error {
			_, err := os.Stat(file("started"))
			return err
		})
		n.Kill9(t)
		<-done
		n.Restart(t)
		node.Eventually(t, 20*time.Second, func() error {
			list, err := n.Runtime.ListPodSandbox(seconds(t, 10), &runtimeapi.ListPodSandboxRequest{})
			if err == nil && len(list.Items) > 0 {
				err = fmt.Errorf("sandboxes that nobody was told of: %v", list.Items)
			}
			return err
		})
		n.NoLeaks(t)
	})
	t.Run("work that cannot be undone", func(t *testing.T) {
		check(t, os.Remove(file("hang")))
		check(t, os.WriteFile(file("stuck"), nil, 0o600))
		check(t, vm.TrySandbox(seconds(t, 30)))
		for range 3 {
			_, err := n.Runtime.StopPodSandbox(seconds(t, 30), &runtimeapi.StopPodSandboxRequest{PodSandboxId: vm.PodID})
			if err == nil {
				t.Fatal("the sandbox was stopped")
			}
			mentions(t, err.Error(), "halfway", "the lock is rusty")
		}
		n.Kill9(t)
		n.Restart(t)
		check(t, os.Remove(file("stuck")))
		removeAll(t, n)
		n.NoLeaks(t)
	})
}
