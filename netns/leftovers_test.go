package netns

import (
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLeftoversOfADeadDaemon: what a plugin called, and nobody ended, does not work against the clean-up.
func TestLeftoversOfADeadDaemon(t *testing.T) {
	n := newNode(t, bridgeNet())
	p := testPod(1)
	n.must(n.setup(p).Close())
	start := func(env ...string) *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		cmd.Env = env
		n.must(cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		return cmd
	}
	theirs := start("CNI_COMMAND=ADD", "CNI_CONTAINERID="+p.ID)
	others := []*exec.Cmd{start("CNI_COMMAND=ADD", "CNI_CONTAINERID="+p.ID+"0"), start("CNI_CONTAINERID=" + p.ID), start("X=CNI_CONTAINERID="+p.ID, "CNI_COMMAND=ADD")}
	n.restart()
	n.teardown(p)
	if err := theirs.Wait(); err == nil || theirs.ProcessState.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("the plugin's program ended by %v", err)
	}
	for _, other := range others {
		if err := other.Process.Signal(unix.Signal(0)); err != nil {
			t.Errorf("%v with %q: %v", other.Args, other.Env, err)
		}
	}
	n.assertClean()
}
