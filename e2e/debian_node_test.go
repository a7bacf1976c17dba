package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// A node as most are: systemd is its init, cgroup v2 all there is, and qemulet comes as a Debian package. It is a VM of the node of
// this test, and has a VM itself.
func TestLongDebianNode(t *testing.T) {
	node.NeedLong(t)
	d := startDebianNode(t)
	for _, part := range []struct {
		name string
		run  func(*debianNode, *testing.T)
	}{
		{"package", (*debianNode).installs},
		{"limits", (*debianNode).keepsLimits},
		{"services", (*debianNode).keepsVMs},
		{"reboot", (*debianNode).reboots},
		{"removal", (*debianNode).goes},
		{"by hand", (*debianNode).isInstalledByHand},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.run(d, t) }) {
			t.Log(d.try(commandLimit, "journalctl --no-pager -o cat -u qemulet -u criproxy -u kubelet -u containerd | tail -n 60"))
			break // what follows needs it
		}
	}
	d.vm.Remove(t)
	d.vm.Node.NoLeaks(t)
}

// debianNode is the node; its second disk is mounted at /mnt.
type debianNode struct {
	vm   *node.VM
	boot string // id of its last boot
}

func startDebianNode(t *testing.T) *debianNode {
	t.Helper()
	n := node.Start(t, node.Options{})
	n.Web.Guest(t, "node", "node")
	check(t, pull(t, n, "node"))
	d := &debianNode{vm: n.NewVM(t, "node", func(vm *node.VM) {
		vm.Config.Image.Image = "virtlet.cloud/node"
		vm.Config.Linux.Resources.MemoryLimitInBytes = 1 << 30
		vm.Pod.Annotations["VirtletVCPUCount"] = "2"
		vm.Config.Devices = []*runtimeapi.Device{{ContainerPath: "/dev/data", HostPath: nodeFiles(t, n), Permissions: "r"}}
	})}
	d.vm.Run(t)
	d.waitBoot(t)
	return d
}

// nodeFiles is a disk with all that the node gets.
func nodeFiles(t *testing.T, n *node.Node) string {
	t.Helper()
	dir := filepath.Join(n.Dir, "files")
	for _, name := range []string{"qemulet", "qemuletctl", "criproxy", "flexvolume_driver", "crictl"} {
		copyTo(t, dir, "bin/"+name, node.Binary(t, name))
	}
	copyTo(t, dir, "tiny.qcow2", node.Guest(t, "tiny"))
	deploy := filepath.Join(node.Top(), "deploy")
	copyTo(t, dir, "deploy/node-install.sh", filepath.Join(deploy, "node-install.sh"))
	check(t, os.CopyFS(filepath.Join(dir, "deploy", "systemd"), os.DirFS(filepath.Join(deploy, "systemd"))))
	check(t, os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "debian-node"))))
	for _, argv := range [][]string{
		{filepath.Join(deploy, "deb", "build.sh"), filepath.Dir(node.Binary(t, "qemulet")), dir},
		{"mke2fs", "-q", "-t", "ext4", "-d", dir, filepath.Join(n.Dir, "files.img"), "300M"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", argv, err, out)
		}
	}
	check(t, os.RemoveAll(dir))
	return filepath.Join(n.Dir, "files.img")
}

func copyTo(t *testing.T, dir, name, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	check(t, err)
	check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, name), data, 0o755))
}

// waitBoot waits until the node is up, and another time than before.
func (d *debianNode) waitBoot(t *testing.T) {
	t.Helper()
	node.Eventually(t, 8*time.Minute, func() error {
		boot, err := d.try(10, "cat /proc/sys/kernel/random/boot_id")
		if err == nil && boot == d.boot {
			err = fmt.Errorf("the boot is still %s", boot)
		}
		if err == nil {
			d.boot = boot
		}
		return err
	})
	d.run(t, "systemctl is-system-running --wait || true; mount -r /dev/vdb /mnt; systemd-run -q --unit web busybox httpd -f -p 127.0.0.1:80 -h /mnt")
}

// commandLimit is what a command on the node may take, in seconds; quiet, the slowest takes 20.
const commandLimit = 300

func (d *debianNode) try(limit int64, command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(limit+30)*time.Second)
	defer cancel()
	r, err := d.vm.Node.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
		ContainerId: d.vm.ID, Cmd: []string{"sh", "-c", "PATH=$PATH:/mnt/bin; " + command}, Timeout: limit})
	if err != nil {
		return "", err
	}
	out := strings.TrimSpace(string(r.Stdout) + string(r.Stderr))
	if r.ExitCode != 0 {
		return out, fmt.Errorf("exit code %d: %s", r.ExitCode, out)
	}
	return out, nil
}

// run runs a command, which must succeed.
func (d *debianNode) run(t *testing.T, command string) string {
	t.Helper()
	out, err := d.try(commandLimit, "set -e; "+command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return out
}

func (d *debianNode) is(t *testing.T, command, want string) {
	t.Helper()
	if got := d.run(t, command); got != want {
		t.Errorf("%s: %q, want %q", command, got, want)
	}
}

func (d *debianNode) installs(t *testing.T) {
	d.is(t, "stat -fc %T /sys/fs/cgroup", "cgroup2fs")
	d.run(t, "export DEBIAN_FRONTEND=noninteractive; apt-get install -qq -o DPkg::Options::=--force-unsafe-io /mnt/*.deb")
	d.is(t, "systemctl is-active qemulet; systemctl is-enabled qemulet", "active\nenabled")
	d.is(t, "systemd-analyze verify qemulet.service criproxy.service", "")
	d.is(t, "systemctl show qemulet --property=Type --property=KillMode --property=Delegate --value | sort | xargs", "notify process yes")
	d.run(t, `cp /mnt/crictl.yaml /etc; cp /mnt/images.yaml /etc/qemulet/images; cat /mnt/settings.yaml >>/etc/qemulet/config.yaml
		qemulet config check /etc/qemulet/config.yaml; systemctl restart qemulet; crictl pull virtlet.cloud/tiny`)
}

const podSlice = "/sys/fs/cgroup/kubepods.slice/kubepods-pode2e.slice"

// keepsLimits is about a pod in a slice that kubelet has had systemd make. systemd, when it reads its units anew, takes from a slice the
// controllers that no unit there needs.
func (d *debianNode) keepsLimits(t *testing.T) {
	d.run(t, `systemctl start kubepods-pode2e.slice; systemctl set-property --runtime kubepods-pode2e.slice MemoryMax=96M
		mkdir -p /var/log/pods/inner/vm; pod=$(crictl runp /mnt/pod.json); crictl start $(crictl create $pod /mnt/vm.json /mnt/pod.json)`)
	limits := "cd " + podSlice + "/qemulet-*; cat cpu.max memory.max ../memory.max"
	before := d.run(t, limits)
	lines := strings.Fields(before)
	if len(lines) != 4 || lines[0]+" "+lines[1] != "150000 100000" || lines[2] == "max" || lines[2] != lines[3] {
		t.Fatalf("quota, limit of the VM, limit of the pod: %q", before)
	}
	d.run(t, "systemctl daemon-reload")
	d.is(t, limits, before)
	d.run(t, "systemctl daemon-reexec; systemctl daemon-reload")
	d.is(t, limits, before)
	matches(t, "stats", d.run(t, "crictl stats -o json $(crictl ps -q)"), `(?s)"workingSetBytes":\s*{\s*"value":\s*"[1-9][0-9]{6}`)
}

// keepsVMs ends the daemon in all ways, and the VM never. It is suspended, for an emulated processor that emulates another has time for
// little else.
func (d *debianNode) keepsVMs(t *testing.T) {
	d.run(t, "qemuletctl suspend inner")
	vm := d.run(t, "pgrep -o qemu-system; crictl ps -q")
	for _, end := range []string{
		"systemctl restart qemulet", "kill -9 $(systemctl show qemulet --property=MainPID --value)", "dpkg -i --force-unsafe-io /mnt/*.deb",
	} {
		d.run(t, end)
		node.Eventually(t, 2*time.Minute, func() error { _, err := d.try(commandLimit, "crictl version"); return err })
		d.is(t, "pgrep -o qemu-system; crictl ps -q", vm)
	}
	mentions(t, d.run(t, "qemuletctl qmp inner query-status"), `"status": "paused"`)
	d.is(t, "systemctl --failed --no-legend", "")
	if out, err := d.try(commandLimit, "dpkg -r qemulet"); err == nil {
		t.Errorf("the package was removed while a VM ran: %s", out)
	}
	d.is(t, "systemctl is-active qemulet", "active")
}

func (d *debianNode) reboots(t *testing.T) {
	if _, err := d.try(commandLimit, "systemctl reboot"); err != nil {
		t.Log("systemctl reboot:", err) // the agent ends with the rest
	}
	d.waitBoot(t)
	mentions(t, d.run(t, "qemuletctl ps"), "inner", "exited (NodeReboot)")
}

// goes has no pods any more, then no package, then nothing at all.
func (d *debianNode) goes(t *testing.T) {
	d.run(t, "crictl rmp -fa")
	d.is(t, "systemctl list-units --no-legend --plain '*qemulet_*'", "")
	d.is(t, "pgrep qemu-system || ip netns", "")
	d.run(t, "rm /etc/qemulet/images/images.yaml; dpkg -r qemulet; dpkg -P qemulet")
	d.is(t, "ls -d /etc/qemulet /run/qemulet /var/lib/qemulet 2>/dev/null || systemctl list-units --all --no-legend --plain 'qemulet*' 'criproxy*'", "")
}

func (d *debianNode) isInstalledByHand(t *testing.T) {
	const endpoint = "grep -o 'unix://.*' /run/kubelet.args | tail -n 1"
	d.run(t, "cp /mnt/kubelet.service /mnt/containerd.service /etc/systemd/system; systemctl daemon-reload; systemctl start containerd kubelet")
	d.is(t, endpoint, "unix:///run/containerd/containerd.sock")
	d.run(t, "/mnt/deploy/node-install.sh install")
	d.is(t, endpoint, "unix:///run/criproxy.sock")
	mentions(t, d.run(t, "qemulet-node-install status"), "ok   qemulet runs", "ok   criproxy runs", "ok   kubelet runs")
	d.is(t, "systemd-analyze verify qemulet.service criproxy.service", "")
	mentions(t, d.run(t, "crictl -r unix:///run/criproxy.sock version"), "qemulet")
	d.run(t, "qemulet-node-install uninstall")
	d.is(t, endpoint, "unix:///run/containerd/containerd.sock")
	d.is(t, "systemctl list-units --all --no-legend --plain 'qemulet*' 'criproxy*'", "")
}
