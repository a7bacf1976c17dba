package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// For people who debug: any QMP client may speak to a machine, several at once, and none of them disturbs the daemon.
func TestDebugSocket(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{Args: []string{"--debug-commands", "all"}})
	n.PullTiny(t)
	vm := n.NewVM(t, "debugged", nil)
	vm.Run(t)
	a, b := n.DialDebug(t, vm), n.DialDebug(t, vm)
	for _, q := range []*node.QMP{a, b} {
		if got := q.Execute(t, "query-status"); !regexp.MustCompile(`"status": ?"running"`).MatchString(got) {
			t.Errorf("query-status: %s", got)
		}
	}
	a.Execute(t, "stop")
	b.Event(t, "STOP")
	a.Execute(t, "cont")
	b.Event(t, "RESUME")
	if _, err := a.TryExecute(t, "migrate", `{"uri":"unix:/tmp/x"}`); err == nil || !strings.Contains(err.Error(), "migrate is never relayed") {
		t.Errorf("migrate: %v", err)
	}
	vm.Stop(t, 0)
	if s := vm.Status(t); s.State != runtimeapi.ContainerState_CONTAINER_EXITED {
		t.Errorf("%v", s)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// The debug socket only looks, unless the node's owner says otherwise; who asked for what is in the daemon's log. The client
// is not ours.
func TestDebugSocketOnlyLooks(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "watched", nil)
	vm.Run(t)
	out := socat(t, filepath.Join(n.Dir, "run", "vm", vm.ID[8:20], "debug.sock"),
		`{"execute":"qmp_capabilities"}`,
		`{"execute":"query-name","id":1}`,
		`{"execute":"qom-set","arguments":{"path":"/machine","property":"x","value":"s3cret"},"id":2}`,
		`{"execute":"human-monitor-command","arguments":{"command-line":"info status"},"id":3}`,
		`{"execute":"human-monitor-command","arguments":{"command-line":"quit"},"id":4}`)
	for _, want := range []string{
		`^\{"QMP": \{"version": `,
		`"id": 1\}`,
		`\{"id": 2, "error": \{"class":"GenericError","desc":"qom-set is refused: .*--allow-writes.*debug-commands: all"\}\}`,
		`"VM status: running\\r\\n", "id": 3\}`,
		`\{"id": 4, "error": \{"class":"GenericError","desc":"human-monitor-command quit is refused: `,
	} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	log := n.DaemonLog()
	for command, outcome := range map[string]string{"query-name": "allowed", "qom-set": "refused"} {
		want := fmt.Sprintf(`debug command" namespace=default pod=watched uid=%s sandbox=.* container=%s client=1 clientPID=[1-9]\d* clientUID=0 command=%s outcome=%s `,
			vm.Pod.Metadata.Uid, vm.ID, command, outcome)
		if !regexp.MustCompile(want).MatchString(log) {
			t.Errorf("no %s in the daemon's log", want)
		}
	}
	if strings.Contains(log, "s3cret") {
		t.Error("an argument is in the daemon's log")
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// socat sends lines to a unix socket and returns what came back when nothing more has come for a second.
func socat(t *testing.T, path string, lines ...string) string {
	t.Helper()
	cmd := exec.Command("socat", "-t", "1", "-", "UNIX-CONNECT:"+path)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	check(t, err)
	return string(out)
}
