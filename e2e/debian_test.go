package e2e

import (
	"crypto/ed25519"
	"net"
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

// debian runs a pod of Debian and logs in with the key of the annotation. run runs a command there, which must succeed.
func debian(t *testing.T, name string, change func(*node.VM)) (vm *node.VM, run func(string) string) {
	t.Helper()
	n := node.Start(t, node.Options{})
	n.Web.Guest(t, "debian", "debian")
	check(t, pull(t, n, "debian"))
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	key, err := ssh.NewPublicKey(public)
	check(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	check(t, err)
	vm = n.NewVM(t, name, func(vm *node.VM) {
		vm.Config.Image.Image = "virtlet.cloud/debian"
		vm.Config.Linux.Resources.MemoryLimitInBytes = 512 << 20
		vm.Pod.Annotations["VirtletVCPUCount"] = "2"
		vm.Pod.Annotations["VirtletSSHKeys"] = string(ssh.MarshalAuthorizedKey(key))
		change(vm)
	})
	vm.Run(t)
	ready := vm.WaitLog(t, `@@GUEST ready .*`, 8*time.Minute)[0]
	mentions(t, ready, `"errors": []`, vm.IP(t))

	conn, err := n.Dial(seconds(t, 10), "tcp", net.JoinHostPort(vm.IP(t), "22"))
	check(t, err)
	c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User: "debian", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 30 * time.Second})
	check(t, err)
	client := ssh.NewClient(c, channels, requests)
	t.Cleanup(func() { client.Close() })
	return vm, func(command string) string {
		t.Helper()
		s, err := client.NewSession()
		check(t, err)
		defer s.Close()
		out, err := s.CombinedOutput(command)
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
}

// userData is what a user may write; what is generated comes behind it and leaves it as it is.
const userData = `#cloud-config
write_files:
- {path: /etc/told, permissions: '0640', content: by cloud-init}
users:
- default
- {name: carol, gecos: "Carol, from user-data", sudo: "ALL=(ALL) NOPASSWD:ALL"}
runcmd:
- [sh, -c, "echo mine >>/var/lib/mine"]
- echo "$(cat /mnt/data/there)" >>/var/lib/mine
mounts:
- [tmpfs, /mnt/tmp, tmpfs, "size=1M"]
- [/dev/data, /mnt/data]
`

// The real cloud-init of a real Debian takes all that a pod can say: disk, users, files, variables, mounts, commands, network.
func TestDebianCloudInit(t *testing.T) {
	t.Parallel()
	var remove func()
	var volume string
	var wire *node.Capture
	vm, run := debian(t, "bookworm", func(vm *node.VM) {
		routedAndSecond(t, vm.Node)
		wire = vm.Node.StartCapture(t)
		vm.Pod.DnsConfig.Servers = append(vm.Pod.DnsConfig.Servers, "fd00::53")
		delete(vm.Pod.Annotations, "VirtletDiskDriver")
		vm.Pod.Annotations["VirtletRootVolumeSize"] = "3Gi"
		vm.Pod.Annotations["VirtletCloudInitUserData"] = userData
		vm.Config.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("green")}, {Key: "TWO", Value: []byte(`a "b" $c`)}}
		vm.Config.Devices = []*runtimeapi.Device{{ContainerPath: "/dev/data", HostPath: ext4File(t, vm.Node, map[string]string{"there": "on the volume"}), Permissions: "rw"}}
		debianMounts(t, vm)
		volume = debianVolume(t, vm)
		vm.Pod.Annotations["VirtletFilesFromDataSource"] = "configmap/files"
		vm.Pod.Annotations["VirtletCloudInitUserDataSource"] = "secret/base" // the other user-data is merged over it
		remove = vm.BringObjects(t, node.Secret("base", map[string]string{"write_files": "- {path: /etc/based, content: on an object}"}), node.ConfigMap("files", map[string]string{
			"motd": "before the first boot\n", "motd_path": "/etc/motd", "motd_encoding": "plain",
			"run": "IyEvYmluL3NoCg==", "run_path": "/var/lib/deep/run.sh"}))
	})
	n := vm.Node
	is := func(command, want string) {
		t.Helper()
		if got := run(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	is("hostname", "bookworm")
	is("hostname -f", "bookworm.web.default.svc.cluster.local")
	is("sudo stat -c %a /etc/told && sudo cat /etc/told", "640\nby cloud-init")
	is("cat /etc/based", "on an object")
	is("cat /etc/motd /var/lib/deep/run.sh && stat -c %a:%U:%G /var/lib/deep /var/lib/deep/run.sh",
		"before the first boot\n#!/bin/sh\n755:root:root\n644:root:root")
	matches(t, "root file system", run("df -B1M --output=size / | tail -n 1"), `^(2[89]|30)[0-9][0-9]$`)
	matches(t, "processors", run("nproc"), `^2$`)
	debianNetwork(t, vm, run)
	if seen := wire.Seen(); len(seen) > 0 {
		t.Errorf("on the node's side of the pod's network: %q", seen)
	}
	mentions(t, run("resolvectl dns 2>/dev/null || cat /etc/netplan/*"), "10.96.0.10")
	is(`. /etc/cloud/environment && echo "$COLOUR $TWO"`, `green a "b" $c`)
	is("getent passwd carol | cut -d: -f5", "Carol, from user-data")
	mentions(t, run("cat /run/cloud-init/result.json"), "DataSourceNoCloud")

	// Files of ConfigMaps and the like, once each; those that belong into a share are bound there.
	is("cd /etc/app && sudo find . -type f -printf '%P %m\\n' | sort", "app.conf 644\nsub/more.conf 644")
	is("cat /etc/app/sub/more.conf", "more")
	is("sudo stat -c %a /etc/key/private && sudo cat /etc/key/private", "400\ns3cret")
	is("cat /etc/podinfo/labels", `app="bookworm"`)
	is("sudo cat /var/run/secrets/kubernetes.io/serviceaccount/token", "t0k3n")
	is("stat -c %a /etc/one.conf && sudo cat /etc/one.conf", "440\none")
	is("cat /srv/share/conf.d/app.conf && findmnt -n -o TARGET /srv/share/conf.d", "key = value\n/srv/share/conf.d")
	is("cat /srv/share/single", "single")

	// The user's own, with the volume by the name that the manifest gives it, and no name left out.
	is("cat /var/lib/mine", "mine\non the volume")
	is("findmnt -n -o FSTYPE /mnt/tmp", "tmpfs")
	is("findmnt -n -o FSTYPE /mnt/data", "ext4")
	is("readlink -f /dev/data", run("findmnt -n -o SOURCE /mnt/data"))
	is("sudo sh /etc/cloud/symlink-devs.sh; ls -l /dev/data | wc -l", "1")
	debianDisks(t, run)
	cloudInitIsContent(t, run, "Activate mounts: FAIL:mount -a") // the share
	t.Run("exec", func(t *testing.T) { execByAgent(t, vm) })

	// systemd powers off at the button, in order.
	vm.Stop(t, 60)
	if s := vm.Status(t); s.ExitCode != 0 || s.Reason != "Completed" {
		t.Errorf("exit code %d, reason %q, message %q", s.ExitCode, s.Reason, s.Message)
	}
	vm.Remove(t)
	vm.RemoveFlexVolume(t, volume)
	remove()
	n.NoLeaks(t)
}

// debianMounts adds one mount of each kind.
func debianMounts(t *testing.T, vm *node.VM) {
	k := newKubeletPod(t, vm)
	k.own("web.default.svc.cluster.local")
	app := map[string]string{"app.conf": "key = value\n", "sub/more.conf": "more\n"}
	k.mount("/etc/app", k.object("configmap", "app", 0o644, app), true)
	k.mount("/etc/key", k.object("secret", "key", 0o400, map[string]string{"private": "s3cret"}), true)
	k.mount("/etc/podinfo", k.object("downward-api", "podinfo", 0o644, map[string]string{"labels": `app="bookworm"`}), true)
	k.mount("/etc/one.conf", k.subPath("app", "3", "one\n", 0o440), true)
	k.mount("/srv/share/conf.d", k.object("configmap", "nested", 0o644, app), true)
	k.mount("/srv/share/single", k.write("single", "single\n", 0o644), true)
	// Debian's cloud kernel knows no 9p. That must not keep it from booting.
	k.mount("/srv/share", hostDir(t, vm.Node, "share", nil), false)
}

// ext4File makes a file with a file system in it.
func ext4File(t *testing.T, n *node.Node, files map[string]string) string {
	t.Helper()
	from := hostDir(t, n, "in-volume", files)
	path := filepath.Join(n.Dir, "host", "volume.img")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", from, path, "16M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return path
}

// cloudInitIsContent asks cloud-init what it thinks of what it was given. One warning may be.
func cloudInitIsContent(t *testing.T, run func(string) string, but string) {
	t.Helper()
	mentions(t, run("sudo cloud-init schema --system"), "Valid")
	if got := run(`sudo grep -E '\[(WARNING|ERROR|CRITICAL|DEPRECATED)\]' /var/log/cloud-init.log | grep -vF '` + but + `' || true`); got != "" {
		t.Errorf("cloud-init's log: %s", got)
	}
}

// readsGolden has cloud-init's own parsers read the seeds with everything in them, which no pod of the tests has.
func readsGolden(t *testing.T, run func(string) string) {
	t.Helper()
	for _, c := range []struct{ seed, network, kind string }{
		{"nocloud", "network-config", "yaml"},
		{"configdrive", "openstack/latest/network_data.json", "network_data.json"},
	} {
		text, err := os.ReadFile("../cloudinit/testdata/seed/" + c.seed + ".txt")
		check(t, err)
		files := map[string]string{}
		for _, file := range strings.Split(string(text), "--- ")[1:] {
			name, content, _ := strings.Cut(file, "\n")
			files[name] = content
		}
		read := func(content, command string) string {
			t.Helper()
			return run("cat >/tmp/golden <<'EOF'\n" + content + "\nEOF\n" + command)
		}
		userData := files["user-data"] + files["openstack/latest/user_data"]
		mentions(t, read(userData, "cloud-init schema --config-file /tmp/golden"), "Valid cloud-config")
		got := read(files[c.network], `cloud-init devel net-convert -p /tmp/golden -k `+c.kind+` -d /tmp/out -D debian -O netplan \
			-m eth0,02:00:00:00:00:01 -m eth1,02:00:00:00:00:02 -m eth2,02:00:00:00:00:03 -m eth3,02:00:00:00:00:04 -m eth4,02:00:00:00:00:05 >&2 && cat /tmp/out/etc/netplan/* | tr -s '\n ' ' '`)
		mentions(t, got, "- 10.1.2.3/24 - fd00:1::5/64", "mtu: 1450", "addresses: - 10.96.0.10 - fd00::a search: - default.svc.cluster.local - cluster.local",
			"to: 0.0.0.0/0 via: 10.1.2.1", "to: 10.96.0.0/12 via: 10.1.2.9", "to: ::/0 via: fd00:1::1", "- 192.168.7.2/30", "to: 172.16.5.0/24 via: 192.168.7.1",
			"eth2: match: macaddress: 02:00:00:00:00:03 set-name: eth2",
			"- fd00:5::7/128 - 10.5.0.8/32 dhcp4: true", "mtu: 9000", "to: fd00:6::/64 via: fe80::1", "dhcp6: true match: macaddress: 02:00:00:00:00:05")
	}
}

// The other layout, on virtio disks, with a full name as the host's name.
func TestDebianConfigDrive(t *testing.T) {
	t.Parallel()
	const full = "drive.web.default.svc.cluster.local"
	vm, run := debian(t, "drive", func(vm *node.VM) {
		vm.Pod.Hostname = full // as with setHostnameAsFQDN
		vm.Pod.Annotations["VirtletCloudInitImageType"] = "configdrive"
		vm.Pod.Annotations["VirtletCloudInitUserData"] = "runcmd: [touch /var/lib/mine]"
		newKubeletPod(t, vm).own("")
	})
	mentions(t, run("cat /run/cloud-init/result.json"), "DataSourceConfigDrive")
	mentions(t, run("hostname; ls /var/lib/mine"), full, "/var/lib/mine")
	mentions(t, run("cat /etc/netplan/*; ip -4 addr show"), vm.IP(t)+"/24", "10.96.0.10", "default.svc.cluster.local", vm.Node.Subnet+"1", "mtu 1460")
	if got := run("grep dhcp /etc/netplan/* || true"); strings.Contains(got, "true") {
		t.Errorf("it asks by DHCP: %s", got)
	}
	mentions(t, run("sudo cat /var/run/secrets/kubernetes.io/serviceaccount/token"), "t0k3n")
	cloudInitIsContent(t, run, "none")
	readsGolden(t, run)
	vm.Remove(t)
	vm.Node.NoLeaks(t)
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
