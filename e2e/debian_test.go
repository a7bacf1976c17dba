package e2e

import (
	"crypto/ed25519"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// The real cloud-init of a real Debian reads the seed, and its owner logs in with the key of the annotation.
func TestDebianCloudInit(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.Web.Guest(t, "debian", "debian")
	check(t, pull(t, n, "debian"))
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	key, err := ssh.NewPublicKey(public)
	check(t, err)
	vm := n.NewVM(t, "bookworm", func(vm *node.VM) {
		vm.Config.Image.Image = "virtlet.cloud/debian"
		vm.Config.Linux.Resources.MemoryLimitInBytes = 512 << 20
		delete(vm.Pod.Annotations, "VirtletDiskDriver")
		vm.Pod.Annotations["VirtletVCPUCount"] = "2"
		vm.Pod.Annotations["VirtletRootVolumeSize"] = "3Gi"
		vm.Pod.Annotations["VirtletSSHKeys"] = string(ssh.MarshalAuthorizedKey(key))
		vm.Pod.Annotations["VirtletCloudInitUserData"] = "write_files:\n- path: /etc/told\n  permissions: '0640'\n  content: by cloud-init\n"
		vm.Config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("green")}}
	})
	vm.Run(t)
	ready := vm.WaitLog(t, `@@GUEST ready .*`, 5*time.Minute)[0]
	mentions(t, ready, "hostname=bookworm", "DataSourceNoCloud", `"errors": []`, vm.IP(t))

	signer, err := ssh.NewSignerFromKey(private)
	check(t, err)
	conn, err := n.Dial(seconds(t, 10), "tcp", net.JoinHostPort(vm.IP(t), "22"))
	check(t, err)
	c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User: "debian", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 30 * time.Second})
	check(t, err)
	client := ssh.NewClient(c, channels, requests)
	defer client.Close()
	run := func(command string) string {
		t.Helper()
		s, err := client.NewSession()
		check(t, err)
		defer s.Close()
		out, err := s.Output(command)
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := run("hostname"); got != "bookworm" {
		t.Errorf("hostname %q", got)
	}
	if got := run("sudo stat -c %a /etc/told && sudo cat /etc/told"); got != "640\nby cloud-init" {
		t.Errorf("the written file: %q", got)
	}
	matches(t, "root file system", run("df -B1M --output=size / | tail -n 1"), `^(2[89]|30)[0-9][0-9]$`)
	matches(t, "processors", run("nproc"), `^2$`)
	mentions(t, run("ip -4 addr show"), vm.IP(t)+"/24")
	mentions(t, run("ip route show default"), "via "+n.Subnet+"1")
	mentions(t, run("ip link show"), "mtu 1460")
	mentions(t, run("sudo cat /etc/cloud/environment"), "COLOUR=green")

	// systemd powers off at the button, in order.
	vm.Stop(t, 60)
	if s := vm.Status(t); s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("exit code %d, reason %q, message %q", s.ExitCode, s.Reason, s.Message)
	}
	vm.Remove(t)
	n.NoLeaks(t)
}

// What "make run" does, by the same script: one manifest, one console, and nothing left.
func TestMakeRun(t *testing.T) {
	n := node.New(t, node.Options{}) // for its folders; no daemon of the test's own
	node.Guest(t, "tiny")
	node.Binary(t, "qemulet")
	dirs := func(names ...string) (args []string) {
		for _, name := range names {
			args = append(args, "--"+name, filepath.Join(n.Dir, name))
			check(t, os.MkdirAll(filepath.Join(n.Dir, name), 0o755))
		}
		return args
	}
	name := n.Netns() + "-run"
	argv := append([]string{filepath.Join(node.Top(), "scripts/run.sh"), filepath.Join(node.Top(), "examples/cirros-vm.yaml"), "--accel", "tcg"},
		dirs("run-dir", "state-dir", "netns-dir")...)
	c := node.InTerminal(t, []string{"QEMULET_NODE=" + name}, argv...)
	c.Expect(`@@GUEST ready .*hostname=cirros-vm`, node.BootLimit)
	c.Expect(`Hello from cirros-vm`, 20*time.Second)
	if got := c.Command("hostname"); got != "cirros-vm" {
		t.Errorf("hostname typed at the console: %q", got)
	}
	c.Send("\x1d") // Ctrl-]
	c.Expect(`left the console of cirros-vm`, 10*time.Second)
	c.Send("\x03") // Ctrl-C
	c.Wait(60 * time.Second)
	if _, err := os.Stat("/run/netns/" + name); err == nil {
		t.Errorf("the network namespace %s is left behind", name)
	}
	for _, dir := range []string{"run-dir/vm", "state-dir/pods", "netns-dir"} {
		if left, _ := os.ReadDir(filepath.Join(n.Dir, dir)); len(left) > 0 {
			t.Errorf("left behind in %s: %v", dir, left)
		}
	}
	if q := n.QEMUs(); len(q) > 0 {
		t.Errorf("left behind: %v", q)
	}
}
