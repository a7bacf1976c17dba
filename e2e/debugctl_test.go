package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// ctlWith runs qemuletctl against a node's daemon with input, and returns what it printed; what it printed as errors is in the
// error.
func ctlWith(t *testing.T, n *node.Node, input string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(node.Binary(t, "qemuletctl"), append([]string{"--socket", n.APISocket()}, args...)...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &problems
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, problems.String())
	}
	return out.String(), nil
}

func ctlSays(t *testing.T, n *node.Node, args ...string) string {
	t.Helper()
	out, err := ctlWith(t, n, "", args...)
	check(t, err)
	return out
}

// qemuletctl qmp: single commands, from a pipe and at a terminal.
func TestCtlQMP(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "asked", nil)
	vm.Run(t)

	if got := ctlSays(t, n, "qmp", "default/asked", "qom-get", "path=/machine", "property=type"); got != "\"pc-q35-7.2-machine\"\n" {
		t.Errorf("qom-get: %q", got)
	}
	var status struct{ Running bool }
	check(t, json.Unmarshal([]byte(ctlSays(t, n, "qmp", "asked", "query-status")), &status))
	if !status.Running {
		t.Error("it does not run")
	}
	if _, err := ctlWith(t, n, "", "qmp", "asked", "set_link", "name=net0", "up=false"); err == nil || !strings.Contains(err.Error(), "set_link is refused") {
		t.Errorf("a command that writes: %v", err)
	}
	if _, err := ctlWith(t, n, "", "qmp", "asked", "qom-get", "path=/nonesuch", "property=x"); err == nil || !strings.Contains(err.Error(), "/nonesuch") {
		t.Errorf("a command that fails: %v", err)
	}
	if got := ctlSays(t, n, "qmp", "asked", "--allow-writes", "set_link", "name=net0", "up=false"); got != "{}\n" {
		t.Errorf("set_link: %q", got)
	}
	out, err := ctlWith(t, n, "query-name\nstop\nqom-list {\"path\": \"/nonesuch\"}\ninfo status\n", "qmp", "asked", "--shell")
	if err == nil || !strings.Contains(err.Error(), "line 2: ") || !strings.Contains(err.Error(), "line 3: ") {
		t.Errorf("the pipe's errors: %v", err)
	}
	if !strings.Contains(out, `"name": "default/asked/vm"`) || !strings.Contains(out, "VM status: running\n") {
		t.Errorf("from a pipe: %s", out)
	}
	atTerminal(t, n)
	log := n.DaemonLog()
	for command, outcome := range map[string]string{"query-status": "allowed", "set_link": "refused", "qom-get": `"allowed, failed"`, "stop": "allowed"} {
		if !regexp.MustCompile(fmt.Sprintf(`debug command" .* clientUID=0 command=%s outcome=%s `, command, outcome)).MatchString(log) {
			t.Errorf("%s, %s is not in the daemon's log", command, outcome)
		}
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// atTerminal is a person who completes, and sees another's doing.
func atTerminal(t *testing.T, n *node.Node) {
	t.Helper()
	c := node.InTerminal(t, nil, node.Binary(t, "qemuletctl"), "--socket", n.APISocket(), "qmp", "asked", "--shell", "--allow-writes")
	c.Expect(`default/asked> `, 10*time.Second)
	c.Send("query-sta\t\t")
	c.Expect(`query-stats  +query-stats-schemas  +query-status`, 10*time.Second)
	c.Send("us\r")
	c.Expect(`"running": true`, 10*time.Second)
	c.Send("qom-l\t")
	c.Expect(`qom-list`, 10*time.Second)
	c.Send("\x15set_l\tu\tt\tn\tnet0\r")
	c.Expect(`set_link up=true name=net0`, 10*time.Second)
	c.Expect(`\{\}`, 10*time.Second)
	ctlSays(t, n, "qmp", "asked", "--allow-writes", "stop")
	c.Expect(`event [0-9.]+ STOP`, 10*time.Second)
	c.Send("cont\r")
	c.Expect(`event [0-9.]+ RESUME`, 10*time.Second)
	c.Send("\x04")
	c.Wait(5 * time.Second)
}

// The display of a VM that asked for one: a picture, and VNC on a port of this machine.
func TestCtlDisplay(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "shown", func(vm *node.VM) { vm.Pod.Annotations["qemulet.io/display"] = "vga" })
	vm.Run(t)
	vm.WaitReady(t)
	img, err := png.Decode(strings.NewReader(ctlSays(t, n, "screenshot", "shown")))
	check(t, err)
	if b := img.Bounds(); b.Dx() < 640 || b.Dx() > 2560 || b.Dy() < 400 || b.Dy() > 1600 {
		t.Errorf("the picture has %v", b)
	}
	if got := vncGreeting(t, n); got != "RFB 003.008\n" {
		t.Errorf("VNC greets with %q", got)
	}
	headless := n.NewVM(t, "headless", nil)
	headless.Run(t)
	for _, command := range []string{"screenshot", "vnc"} {
		if _, err := ctlWith(t, n, "", command, "headless"); err == nil || !strings.Contains(err.Error(), "qemulet.io/display: vga") {
			t.Errorf("%s without a display: %v", command, err)
		}
	}
	vm.Remove(t)
	headless.Remove(t)
	n.NoLeaks(t)
}

// vncGreeting connects to the port that qemuletctl vnc offers, as two viewers at once.
func vncGreeting(t *testing.T, n *node.Node) string {
	t.Helper()
	c := node.InTerminal(t, nil, node.Binary(t, "qemuletctl"), "--socket", n.APISocket(), "vnc", "shown")
	address := c.Expect(`VNC display of default/shown: (127\.0\.0\.1:\d+) `, 10*time.Second)[1]
	var greeting [12]byte
	for range 2 {
		viewer, err := net.Dial("tcp", address)
		check(t, err)
		defer viewer.Close()
		check(t, viewer.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = io.ReadFull(viewer, greeting[:])
		check(t, err)
	}
	c.Send("\x03")
	c.Wait(5 * time.Second)
	return string(greeting[:])
}
