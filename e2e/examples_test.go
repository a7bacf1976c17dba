package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// example is a manifest of examples/ on this machine.
type example struct {
	// guest stands in for the image, tiny if it is empty.
	image, guest string
	// prepare makes what is the machine's, and returns what to put into the manifest for what is written there.
	prepare func(t *testing.T, m *machine) (replace []string)
	// twice runs it again.
	twice bool
	// look is a look into the guest, for what the example is about. It is over when that has booted.
	look func(t *testing.T, m *machine, g *guest)
}

// guest is a guest in a terminal.
type guest struct {
	*node.Console
	run int // 1 for the first
	// said is what it has printed until it was ready.
	said string
}

var examples = map[string]example{
	"cirros-vm-deployment.yaml": {image: "cirros", look: func(t *testing.T, m *machine, g *guest) {
		mentions(t, g.said, "note: Deployment cirros-vm: the pod of its template is run, as cirros-vm-0; it asks for 2")
		g.answers(t, "hostname", "cirros-vm-0")
	}},
	"block-volume.yaml": {image: "ubuntu", prepare: aFile("/var/lib/qemulet/disks/data.img", 64<<20, "of the volume"),
		look: func(t *testing.T, m *machine, g *guest) {
			g.answers(t, "head -c 13 /dev/"+g.disk(t, 64<<20), "of the volume")
			matches(t, "the mount of the manifest", g.said, `@@SEED user-data .*/dev/disk/by-id/`)
		}},
	"shared-directories.yaml": {image: "ubuntu", guest: "tiny-9p", prepare: sharedDirs, look: func(t *testing.T, m *machine, g *guest) {
		g.answers(t, "ls -1 /mnt; cat /mnt/reference/page", "data\nreference\nscratch\nshared\nread me")
		g.answers(t, "echo x >/mnt/reference/page", "sh: can't create /mnt/reference/page: Read-only file system")
		g.answers(t, "echo from the guest | tee /mnt/shared/here /mnt/data/there >/mnt/scratch/gone; cat /mnt/scratch/gone", "from the guest")
		for _, name := range []string{"shared/here", "data/shared-vm/there"} {
			raw, err := os.ReadFile(filepath.Join(m.Dir, name))
			if string(raw) != "from the guest\n" || err != nil || ownerOf(t, filepath.Join(m.Dir, name)) != "0:0" {
				t.Errorf("%s on the machine: %q, %v", name, raw, err)
			}
		}
	}},
	"persistent-root.yaml": {image: "cirros", prepare: aFile("/dev/rootdev", 64<<20, ""), twice: true, look: func(t *testing.T, m *machine, g *guest) {
		// The second time it is the same disk, and not longer than the device: its first sector says what it holds.
		mentions(t, g.said, fmt.Sprintf("count=%d", g.run), fmt.Sprintf("disk vda bytes=%d", 64<<20-512))
	}},
	"qcow2-volume.yaml": {image: "cirros", look: func(t *testing.T, m *machine, g *guest) {
		g.answers(t, "grep -c ' /data ext4 rw' /proc/mounts; echo here >/data/file; cat /data/file", "1\nhere")
		mentions(t, g.said, "disk vdb bytes=40000000")
	}},
	"raw-volume.yaml": {image: "cirros", prepare: aLoop, look: func(t *testing.T, m *machine, g *guest) {
		g.answers(t, "cat /data/hello", "from the device")
	}},
	"multi-network.yaml": {image: "ubuntu", prepare: twoNetworks, look: func(t *testing.T, m *machine, g *guest) {
		g.answers(t, "ip -o -4 addr show scope global | grep -c .", "2")
		matches(t, "the first network card", g.said, `nic eth0 mac=`)
		matches(t, "the second network card", g.said, `nic eth1 mac=`)
		inspectsTwoNetworks(t, m)
	}},
	"cloud-init.yaml": {image: "cirros", look: func(t *testing.T, m *machine, g *guest) {
		mentions(t, g.said, "type=configdrive", "user-data runs on renamed", "uuid=53008994-44c0-4017-ad44-9c49758083da")
		if strings.Contains(g.said, "network_data.json") {
			t.Error("the guest is told of a network, and not to ask for it")
		}
	}},
	"ubuntu-vm.yaml": {image: "cloud-images.ubuntu.com/jammy/current/jammy-server-cloudimg-amd64.img", look: func(t *testing.T, m *machine, g *guest) {
		mentions(t, g.said, "disk sda bytes=4294967296", "user@example.org")
		g.answers(t, `[ $(awk '/MemTotal/ {print $2}' /proc/meminfo) -gt 900000 ] && echo about a GiB`, "about a GiB")
	}},
	"cpu.yaml": {image: "cirros", look: func(t *testing.T, m *machine, g *guest) {
		g.answers(t, "grep -c ^processor /proc/cpuinfo; grep -o -m1 Westmere /proc/cpuinfo; grep -cw aes /proc/cpuinfo; grep -m1 'cpu cores' /proc/cpuinfo | tr -dc 0-9",
			"2\nWestmere\n0\n2")
	}},
	"nested-virtualization.yaml": {image: "ubuntu", look: func(t *testing.T, m *machine, g *guest) {
		g.answers(t, "grep -qwE 'vmx|svm' /proc/cpuinfo && echo it can", "it can")
	}},
	"statefulset.yaml": {image: "ubuntu", prepare: aFile("/dev/cluster/disk0", 16<<20, "of the first"), look: func(t *testing.T, m *machine, g *guest) {
		mentions(t, g.said, "note: StatefulSet cluster: the pod of its template is run, as cluster-0; it asks for 3",
			"note: Service cluster has no effect", "cluster-0.cluster.default.svc.cluster.local")
		g.answers(t, "hostname; head -c 12 /dev/"+g.disk(t, 16<<20)+"; nproc", "cluster-0\nof the first2")
	}},
	"config.yaml": {image: "ubuntu", look: func(t *testing.T, m *machine, g *guest) {
		for _, want := range []string{"path: /etc/motd", "path: /etc/issue.net", "path: /etc/app/app.conf", "path: /etc/app/limits.conf", "path: /etc/app.conf",
			"path: /etc/app-credentials/password", "path: /etc/cloud/environment", `permissions: "0400"`, "DATABASE_PASSWORD", "operator@example.org"} {
			if n := strings.Count(g.said, want); n != 1 {
				t.Errorf("%q is there %d times in what the guest got", want, n)
			}
		}
		if strings.Contains(m.processes(t), "correct horse") {
			t.Error("a process's arguments hold the password")
		}
	}},
	"users.yaml": {image: "fedora", guest: "debian", look: func(t *testing.T, m *machine, g *guest) {
		g.Send("\n")
		g.Expect(`login: `, 30*time.Second)
		g.Send("testuser\n")
		g.Expect(`[Pp]assword: `, 20*time.Second)
		g.Send("testuser\n")
		g.Expect(`testuser@users-vm`, 20*time.Second)
		g.Send("echo; sudo id -un | sed s/^/I-am-/\n")
		g.Expect(`I-am-root`, 20*time.Second)
		g.Send("sudo systemctl poweroff\n")
	}},
}

// elsewhere are the examples that other tests run.
var elsewhere = map[string]string{
	"cirros-vm.yaml": "TestMakeRun",
}

// The examples do what their comments say.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(node.Top(), "examples", "*.yaml"))
	check(t, err)
	for _, file := range files {
		name := filepath.Base(file)
		e, known := examples[name]
		if !known {
			if elsewhere[name] == "" {
				t.Errorf("no test runs examples/%s", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) { e.run(t, file) })
	}
}

func (e *example) run(t *testing.T, file string) {
	m := newMachine(t)
	raw, err := os.ReadFile(file)
	check(t, err)
	text := string(raw)
	if e.prepare != nil {
		replace := e.prepare(t, m)
		for i := 0; i < len(replace); i += 2 {
			if !strings.Contains(text, replace[i]) {
				t.Fatalf("the manifest does not mention %s", replace[i])
			}
		}
		text = strings.NewReplacer(replace...).Replace(text)
	}
	here := filepath.Join(m.Dir, "example.yaml")
	check(t, os.WriteFile(here, []byte(text), 0o600))
	stand := e.guest
	if stand == "" {
		stand = "tiny"
	}
	m.Web.Guest(t, e.image, stand)
	e.boot(t, m, here, stand, 1)
	m.nothingLeft(t)
	if e.twice {
		e.boot(t, m, here, stand, 2)
		m.nothingLeft(t)
	}
}

// aScript is a seed whose user-data is a script, which the tiny guest runs at last.
var aScript = regexp.MustCompile(`@@SEED \S*user.data #!`)

// boot runs the manifest until the look into the guest is over, and powers it off.
func (e *example) boot(t *testing.T, m *machine, file, stand string, run int) {
	t.Helper()
	g := &guest{Console: m.terminal(t, "run", file), run: run}
	limit := node.BootLimit
	if stand == "debian" {
		limit = 5 * time.Minute
	}
	g.said = g.Expect(`(?s)^.*@@GUEST ready [^\n]*\n`, limit)[0]
	if aScript.MatchString(g.said) {
		g.said += g.Expect(`(?s)^.*@@GUEST userdata [^\n]*\n`, 20*time.Second)[0]
	}
	e.look(t, m, g)
	if stand != "debian" {
		g.Send("poweroff -f\n")
	}
	g.Expect(`the guest powered off[^\n]*\(Completed, exit code 0\)\n`, 90*time.Second)
	ends(t, g.Console, 0)
}

// disk is the guest's name of the disk of that size: SCSI disks are named as they are found.
func (g *guest) disk(t *testing.T, size int64) string {
	t.Helper()
	m := regexp.MustCompile(fmt.Sprintf(`@@GUEST disk (\w+) bytes=%d `, size)).FindStringSubmatch(g.said)
	if m == nil {
		t.Fatalf("the guest has no disk of %d bytes", size)
	}
	return m[1]
}

// answers types a command at the tiny guest's shell.
func (g *guest) answers(t *testing.T, command, want string) {
	t.Helper()
	if got := g.Command(command); got != want {
		t.Errorf("%s: %q, want %q", command, got, want)
	}
}

// aFile stands in for a device: a file of a size that begins with some text.
func aFile(device string, size int64, text string) func(*testing.T, *machine) []string {
	return func(t *testing.T, m *machine) []string {
		file := filepath.Join(m.Dir, "disk.img")
		check(t, os.WriteFile(file, []byte(text), 0o600))
		check(t, os.Truncate(file, size))
		return []string{device, file}
	}
}

// aLoop is a loop device with a filesystem.
func aLoop(t *testing.T, m *machine) []string {
	dir, file := filepath.Join(m.Dir, "content"), filepath.Join(m.Dir, "loop.img")
	check(t, os.Mkdir(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "hello"), []byte("from the device\n"), 0o644))
	command(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, file, "8M")
	device := strings.TrimSpace(command(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { command(t, "losetup", "--detach", device) })
	return []string{"/dev/loop0", device}
}

func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", argv, err, out)
	}
	return string(out)
}

// inspectsTwoNetworks: addresses, links and counters of each interface are there to be seen.
func inspectsTwoNetworks(t *testing.T, m *machine) {
	var told struct {
		Pod struct {
			Status struct {
				Network struct{ AdditionalIPs []struct{ IP string } }
			}
			Info struct {
				Network struct {
					Interfaces []struct {
						Name, MAC, Tap, Plumbing string
						MTU                      int
						Addresses                []string
					}
				}
				Counters []struct {
					Name, MAC        string
					RxBytes, TxBytes uint64
				}
			}
		}
	}
	out := m.must(t, "inspect", "multi-vm")
	check(t, json.Unmarshal([]byte(out), &told))
	info := told.Pod.Info
	if len(info.Network.Interfaces) != 2 || len(info.Counters) != 2 || len(told.Pod.Status.Network.AdditionalIPs) != 1 {
		t.Fatalf("inspect says %s", out)
	}
	for i, nic := range info.Network.Interfaces {
		count := info.Counters[i]
		if nic.Name != []string{"eth0", "net1"}[i] || nic.MTU != 1500 || len(nic.Addresses) != 1 || nic.Tap == "" || nic.Plumbing == "" ||
			count.Name != nic.Name || count.MAC != nic.MAC || count.TxBytes == 0 || count.RxBytes == 0 {
			t.Errorf("interface %d: %+v, counters %+v", i, nic, count)
		}
	}
	if second := info.Network.Interfaces[1]; second.MAC != "06:aa:00:00:00:01" || second.Addresses[0] != "10.79.0.7/24" {
		t.Errorf("the second interface: %+v", second)
	}
}

// twoNetworks is a CNI configuration with a plugin that makes a second interface beside that of another plugin, as those do
// that serve several networks.
func twoNetworks(t *testing.T, m *machine) []string {
	plugins := filepath.Join(m.Dir, "plugins")
	check(t, os.Mkdir(plugins, 0o755))
	check(t, os.WriteFile(filepath.Join(plugins, "two"), []byte(twoPlugin), 0o755))
	check(t, os.MkdirAll(filepath.Join(m.Dir, "cni"), 0o755))
	check(t, os.WriteFile(filepath.Join(m.Dir, "cni", "10-two.conflist"), []byte(`{"cniVersion": "1.0.0", "name": "two", "plugins": [
		{"type": "two", "bridge": "qbr0", "isGateway": true, "ipam": {"type": "host-local", "dataDir": "`+m.Dir+`/ipam", "subnet": "10.78.0.0/24"}}]}`), 0o644))
	m.settings = append(m.settings, "--cni-bin-dir="+plugins+",/usr/lib/cni")
	return nil
}

const twoPlugin = `#!/bin/sh -e
result=$(sed 's/"type":"two"/"type":"bridge"/' | /usr/lib/cni/bridge)
[ "$CNI_COMMAND" = ADD ] || exit 0
nsenter --net="$CNI_NETNS" sh -ec 'ip link add net1 type veth peer name peer1; ip link set peer1 up
	ip link set net1 address 06:aa:00:00:00:01 up; ip addr add 10.79.0.7/24 dev net1'
echo "$result" | tr -d ' \n\t' | sed 's|\("ips":\[[^]]*\)\]|\1,{"address":"10.79.0.7/24"}]|'
`

func sharedDirs(t *testing.T, m *machine) []string {
	read := filepath.Join(m.Dir, "doc")
	check(t, os.Mkdir(read, 0o755))
	check(t, os.WriteFile(filepath.Join(read, "page"), []byte("read me\n"), 0o600))
	return []string{"/srv/shared", filepath.Join(m.Dir, "shared"), "/srv/data", filepath.Join(m.Dir, "data"), "/usr/share/doc", read}
}

// processes are the command lines of the machine's QEMUs.
func (m *machine) processes(t *testing.T) (all string) {
	t.Helper()
	for _, q := range m.QEMUs() {
		out, err := exec.Command("ps", "-o", "args=", "-p", fmt.Sprint(q.PID)).Output()
		check(t, err)
		all += string(out)
	}
	if all == "" {
		t.Error("no QEMU runs")
	}
	return all
}
