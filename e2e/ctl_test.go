package e2e

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// ctlArgs is qemuletctl as it is typed on the node.
func ctlArgs(t testing.TB, n *node.Node, args ...string) []string {
	t.Helper()
	return append([]string{node.Binary(t, "qemuletctl"), "--socket", filepath.Join(n.Dir, "run/api.sock")}, args...)
}

// tryCtl returns what it printed, and what it said is in the error.
func tryCtl(t testing.TB, n *node.Node, args ...string) (string, error) {
	t.Helper()
	argv := ctlArgs(t, n, args...)
	cmd := exec.CommandContext(seconds(t, 60), argv[0], argv[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("qemuletctl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

func ctl(t testing.TB, n *node.Node, args ...string) string {
	t.Helper()
	out, err := tryCtl(t, n, args...)
	check(t, err)
	return out
}

func ctlFails(t testing.TB, n *node.Node, words []string, args ...string) {
	t.Helper()
	out, err := tryCtl(t, n, args...)
	if err == nil {
		t.Errorf("qemuletctl %s succeeds: %s", strings.Join(args, " "), out)
		return
	}
	mentions(t, err.Error(), words...)
}

// ctlState is the state of a VM in the list.
func ctlState(t testing.TB, n *node.Node, name string) string {
	t.Helper()
	var all []struct{ Namespace, Name, Node, State string }
	check(t, json.Unmarshal([]byte(ctl(t, n, "ps", "-o", "json")), &all))
	for _, vm := range all {
		if vm.Name == name {
			return vm.State
		}
	}
	return "absent"
}

// What an operator sees of a VM on its node, without changing anything.
func TestCtlLooks(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	mentions(t, ctl(t, n, "ps"), "there are no VM pods")
	n.PullTiny(t)
	vm := n.NewVM(t, "looked-at", nil)
	vm.Run(t)
	vm.WaitReady(t)

	matches(t, "ps", ctl(t, n, "ps"), `(?m)^default +looked-at +\S+ +running +1 +96Mi +`+vm.IP(t)+` +\d+s$`)
	matches(t, "ps -o wide", ctl(t, n, "ps", "-o", "wide", "-n", "default"), `virtlet.cloud/tiny +0 +`+vm.ID[:20])
	mentions(t, ctl(t, n, "ps", "-n", "other"), "there are no VM pods")
	matches(t, "ps -o yaml", ctl(t, n, "ps", "-o", "yaml"), `(?m)^  state: running$`)
	ctlInspects(t, n, vm)
	ctlAsVirsh(t, n, vm)
	matches(t, "version", ctl(t, n, "version"), `(?m)^client 0\.1\.0\S*\nnode \S+: 0\.1\.0`)
	mentions(t, ctl(t, n, "__complete", "inspect", "loo"), "looked-at")
	mentions(t, ctl(t, n, "__complete", "ssh", "root@default/loo"), "root@default/looked-at")

	ctlFails(t, n, []string{`there is no VM pod "other/looked-at" on this node`, "through its socket " + n.Dir}, "inspect", "-n", "other", "looked-at")
	ctlFails(t, n, []string{`--socket means this machine, --node another`}, "ps", "--node", "x")
	ctlFails(t, n, []string{`port 22 of pod default/looked-at`, "refused"}, "ssh", "root@looked-at", "--", "true")

	// A QEMU that hangs is shown as that, and holds up nobody.
	qemu := n.QEMUs()[0]
	check(t, exec.Command("kill", "-STOP", fmt.Sprint(qemu.PID)).Run())
	if got := ctlState(t, n, "looked-at"); got != "unresponsive" {
		t.Errorf("a QEMU that hangs is %q", got)
	}
	mentions(t, ctl(t, n, "inspect", "looked-at"), "unresponsive", "-device")
	check(t, exec.Command("kill", "-CONT", fmt.Sprint(qemu.PID)).Run())
	vm.Stop(t, 0)
	vm.Remove(t)
	n.NoLeaks(t)
}

func ctlInspects(t *testing.T, n *node.Node, vm *node.VM) {
	t.Helper()
	text := ctl(t, n, "inspect", "looked-at")
	mentions(t, text, "default/looked-at", vm.Pod.Metadata.Uid, vm.ID, vm.PodID, "running", "pc-q35-", vm.IP(t)+"/24", fmt.Sprintf("MTU %d", node.MTU), "disk root:", "over /", "debug.sock")
	matches(t, "QEMU's command line", text, `(?m)^  -device \{"driver":"virtio-blk-pci"`)
	var d struct {
		State      string
		PID        int
		Interfaces []struct {
			Name     string
			Counters struct{ RxPackets, TxPackets uint64 }
		}
		Disks  []struct{ ID, Format, File, Backing string }
		Config struct {
			VM struct{ Hypervisor struct{ Parameters []string } }
		}
	}
	check(t, json.Unmarshal([]byte(ctl(t, n, "inspect", "-o", "json", "default/looked-at")), &d))
	if d.State != "running" || d.PID != n.QEMUs()[0].PID || len(d.Disks) < 2 || len(d.Config.VM.Hypervisor.Parameters) < 10 {
		t.Errorf("%+v", d)
	}
	// QEMU was handed open files; people want to know which.
	for _, disk := range d.Disks {
		if _, err := os.Stat(disk.File); err != nil || !strings.HasPrefix(disk.File, n.Dir) {
			t.Errorf("disk %+v: %v", disk, err)
		}
	}
	if base := d.Disks[0].Backing; !strings.Contains(base, "/images/") {
		t.Errorf("the root disk is over %q", base)
	}
	if len(d.Interfaces) != 1 || d.Interfaces[0].Counters.TxPackets == 0 {
		t.Errorf("interfaces: %+v", d.Interfaces)
	}
}

func ctlAsVirsh(t *testing.T, n *node.Node, vm *node.VM) {
	t.Helper()
	matches(t, "virsh list", ctl(t, n, "virsh", "list"), `(?m)^ `+vm.ID[8:20]+` +default/looked-at +running$`)
	if got := ctl(t, n, "list", "--name"); got != "default/looked-at\n" {
		t.Errorf("list --name: %q", got)
	}
	info := ctl(t, n, "virsh", "dominfo", "--", "@looked-at")
	for _, want := range []string{`Name: +default/looked-at`, `State: +running`, `CPU\(s\): +1`, `CPU time: +[1-9][\d.]*s`, `Max memory: +98304 KiB`} {
		matches(t, "dominfo", info, `(?m)^`+want+`$`)
	}
	all := ctl(t, n, "domstats", "looked-at")
	for _, want := range []string{`state.state=1`, `cpu.time=[1-9]\d+`, `balloon.maximum=98304`, `vcpu.current=1`, `vcpu.0.time=[1-9]\d+`, `net.0.tx.bytes=[1-9]\d*`, `block.0.name=root`, `block.0.rd.bytes=[1-9]\d+`} {
		matches(t, "domstats", all, `(?m)^  `+want+`$`)
	}
	if part := ctl(t, n, "virsh", "domstats", "--", "@looked-at", "--vcpu"); !strings.Contains(part, "vcpu.0.time") || strings.Contains(part, "net.") {
		t.Errorf("domstats --vcpu: %s", part)
	}
	var x struct {
		Type string `xml:"type,attr"`
		Name string `xml:"name"`
		Disk []struct {
			Source struct {
				File string `xml:"file,attr"`
			} `xml:"source"`
		} `xml:"devices>disk"`
		MAC struct {
			Address string `xml:"address,attr"`
		} `xml:"devices>interface>mac"`
	}
	check(t, xml.Unmarshal([]byte(ctl(t, n, "dumpxml", "looked-at")), &x))
	if x.Type != "qemu" || x.Name != "default/looked-at" || len(x.Disk) < 2 || x.MAC.Address == "" {
		t.Errorf("dumpxml: %+v", x)
	}
	ctlFails(t, n, []string{"there is no such command"}, "virsh", "migrate", "@looked-at")
}

// The power verbs, what the guest feels of them, and what CRI says then.
func TestCtlPower(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	vm := n.NewVM(t, "switched", nil)
	vm.Run(t)
	vm.WaitReady(t)

	person := node.InTerminal(t, nil, ctlArgs(t, n, "console", "switched")...)
	person.Expect(`Ctrl-\] leaves it`, 10*time.Second)
	person.Send("\n")
	if got := person.Command("echo al''ive"); got != "alive" {
		t.Errorf("the console answers %q", got)
	}
	mentions(t, ctl(t, n, "suspend", "switched"), "default/switched: suspended")
	if got := ctlState(t, n, "switched"); got != "suspended" || vm.Status(t).State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("a suspended VM is %q, and for kubelet %v", got, vm.Status(t).State)
	}
	mentions(t, ctl(t, n, "virsh", "list"), "paused")
	n.Kill9(t)
	n.Restart(t)
	if got := ctlState(t, n, "switched"); got != "suspended" {
		t.Errorf("after a restart of the daemon a suspended VM is %q", got)
	}
	if err := person.Wait(10 * time.Second); err == nil {
		t.Error("the console outlives the daemon")
	}
	person = node.InTerminal(t, nil, ctlArgs(t, n, "console", "switched")...)
	ctl(t, n, "virsh", "resume", "--", "@switched")
	person.Send("echo wo''ken\n")
	person.Expect(`woken\n`, 30*time.Second)
	person.Send("\x1d")
	if err := person.Wait(10 * time.Second); err != nil {
		t.Errorf("after Ctrl-]: %v", err)
	}

	ctl(t, n, "reset", "switched")
	node.Eventually(t, node.BootLimit, func() error {
		if n := linesThat(t, vm, "@@GUEST ready"); n != 2 {
			return fmt.Errorf("it has booted %d times", n)
		}
		return nil
	})
	if s := vm.Status(t); s.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("after a reset: %v", s)
	}
	ctlEnds(t, n, vm)
	vm.Remove(t)
	n.NoLeaks(t)
}

// linesThat counts the lines of a VM's log that begin so.
func linesThat(t testing.TB, vm *node.VM, start string) (n int) {
	t.Helper()
	all, err := node.ReadLog(vm.LogPath)
	check(t, err)
	for _, l := range all {
		if strings.HasPrefix(l.Text, start) {
			n++
		}
	}
	return n
}

// ctlEnds ends a VM by its power button, and the next one by force.
func ctlEnds(t *testing.T, n *node.Node, vm *node.VM) {
	t.Helper()
	node.Eventually(t, node.BootLimit, func() error { // a guest that boots does not feel its button yet
		if _, err := tryCtl(t, n, "shutdown", "switched"); err != nil && vm.Status(t).State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			return err
		}
		if s := vm.Status(t); s.State != runtimeapi.ContainerState_CONTAINER_EXITED {
			time.Sleep(time.Second)
			return errors.New("it still runs")
		}
		return nil
	})
	if s := vm.Status(t); s.Reason != "Completed" || s.ExitCode != 0 {
		t.Errorf("after shutdown: %v", s)
	}
	matches(t, "ps", ctl(t, n, "ps"), `switched .* exited \(Completed\)`)
	mentions(t, ctl(t, n, "list", "--all"), "shut off")
	ctlFails(t, n, []string{"suspend", "is exited, only a running one can"}, "suspend", "switched")
	ctlFails(t, n, []string{"is exited, only a running one has a console"}, "console", "switched")
	mentions(t, ctl(t, n, "inspect", "switched"), "the guest powered off", "-device")

	vm.Config.Metadata.Attempt++
	check(t, vm.TryCreate(seconds(t, 60)))
	check(t, vm.TryStart(seconds(t, 60)))
	mentions(t, ctl(t, n, "destroy", "switched"), "ended by force")
	if s := vm.Status(t); s.State != runtimeapi.ContainerState_CONTAINER_EXITED || s.Reason != "Error" || s.ExitCode != 137 || !strings.Contains(s.Message, "by force") {
		t.Errorf("after destroy: %v", s)
	}
}

// ssh to a guest whose network nobody here can reach.
func TestCtlSSH(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	key, err := ssh.NewPublicKey(public)
	check(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	check(t, err)
	file := filepath.Join(t.TempDir(), "key")
	check(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	vm, _ := debian(t, "reached", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletSSHKeys"] += string(ssh.MarshalAuthorizedKey(key))
	})
	n := vm.Node
	args := func(command string) []string {
		return []string{"ssh", "debian@default/reached", "--", "-i", file, command}
	}
	if got := ctl(t, n, args("hostname; cat >/dev/null; id -un")...); got != "reached\ndebian\n" {
		t.Errorf("ssh printed %q", got)
	}
	_, err = tryCtl(t, n, args("echo to stderr >&2; exit 37")...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 37 || !strings.HasSuffix(err.Error(), ": to stderr\n") {
		t.Errorf("got %v", err)
	}
	big := ctl(t, n, args("head -c 5000000 /dev/zero | tr '\\0' x")...)
	if len(big) != 5000000 {
		t.Errorf("%d bytes came", len(big))
	}
	vm.Stop(t, 0)
	vm.Remove(t)
	n.NoLeaks(t)
}
