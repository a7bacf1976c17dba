package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	dirPrefix = "/tmp/qec-"
	// NodeName and NodeIP are the node's; no other machine sees the address.
	NodeName = "e2e-node"
	NodeIP   = "10.123.0.1"
)

// Cluster is a running cluster. Methods that take a testing.TB fail the test instead of returning an error.
type Cluster struct {
	Dir        string
	first      *first
	components map[string]*Component
	web        *httptest.Server
	dns        *dnsServer
}

// Start brings a cluster up, until its node is Ready. Close ends it.
func Start(tb testing.TB) *Cluster {
	tb.Helper()
	sweep()
	c := &Cluster{Dir: dirPrefix + randomHex(3), components: map[string]*Component{}}
	for _, d := range []string{"log", "pki", "etcd", "cni", "containerd", "kubelet", "podlogs", "flex", "manifests", "proc", "images.d"} {
		must(tb, os.MkdirAll(c.Path(d), 0o755))
	}
	writeKeyPair(tb, c.Path("pki/sa.key"), c.Path("pki/sa.pub"))
	c.boot(tb)
	c.define(tb)
	return c
}

// Reboot ends everything at once, as pulling the plug would, and starts the node again from what is on its disks.
func (c *Cluster) Reboot(tb testing.TB) {
	tb.Helper()
	c.halt()
	for _, gone := range []string{"q", "containerd/state", "containerd/containerd.sock", "criproxy.sock"} {
		must(tb, os.RemoveAll(c.Path(gone)))
	}
	c.boot(tb)
}

func (c *Cluster) boot(tb testing.TB) {
	tb.Helper()
	f, err := startFirst(program(tb, "pause"))
	must(tb, err)
	c.first = f
	must(tb, os.WriteFile(c.Path("owner"), []byte(fmt.Sprintf("%d %s %d %s", os.Getpid(), startTime(os.Getpid()), f.PID, f.start)), 0o644))
	c.prepare(tb)
	c.startContainerd(tb)
	c.startControlPlane(tb)
	c.startDNS(tb)
	c.startRuntime(tb)
	c.startKubelet(tb)
}

// halt ends everything inside.
func (c *Cluster) halt() {
	if c.web != nil {
		c.web.Close()
	}
	if c.dns != nil {
		c.dns.close()
	}
	c.first.end()
	c.removeCgroups()
}

// Close ends everything inside and removes what is outside: folder and cgroups. The folder stays if E2E_KEEP is set.
func (c *Cluster) Close() {
	c.halt()
	if os.Getenv("E2E_KEEP") != "" {
		os.Remove(c.Path("owner"))
		fmt.Fprintln(os.Stderr, "kept:", c.Dir)
		return
	}
	os.RemoveAll(c.Dir)
}

// Path is a path below the cluster's folder.
func (c *Cluster) Path(elem ...string) string {
	return filepath.Join(append([]string{c.Dir}, elem...)...)
}

// Component is a daemon by its name: "etcd", "kube-apiserver", "kubelet", "containerd", "qemulet", "criproxy" and so on.
func (c *Cluster) Component(tb testing.TB, name string) *Component {
	tb.Helper()
	k := c.components[name]
	if k == nil {
		tb.Fatalf("the cluster has no component %q", name)
	}
	return k
}

func (c *Cluster) netns() string { return fmt.Sprintf("/proc/%d/ns/net", c.first.PID) }

// Command is a command that runs inside.
func (c *Cluster) Command(argv ...string) *exec.Cmd {
	argv = c.first.enter(argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = plainEnviron()
	return cmd
}

// In runs a command inside and returns what it printed.
func (c *Cluster) In(tb testing.TB, argv ...string) string {
	tb.Helper()
	out, err := c.Command(argv...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// prepare makes the inside of the namespaces fit for a node. kubelet wants some machine-wide settings: it is shown files that say what it
// wants, and the machine keeps its own. Each boot has an id of its own.
func (c *Cluster) prepare(tb testing.TB) {
	tb.Helper()
	must(tb, makeCgroups(c.cgroupRoot()))
	c.In(tb, "sh", "-euc", `
mount --make-rshared /
ip link set lo up
ip link add node0 type bridge
ip addr add `+NodeIP+`/24 dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
cd '`+c.Path("proc")+`'
say() { rm -f $(basename $1); echo $2 >$(basename $1); mount --bind $(basename $1) /proc/sys/$1; }
say kernel/random/boot_id $(cat /proc/sys/kernel/random/uuid)
say vm/overcommit_memory 1; say vm/panic_on_oom 0; say kernel/panic 10; say kernel/panic_on_oops 1
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/netns /run/lock
for d in /var/lib/cni /var/lib/kubelet /var/log/containers /var/lib/criproxy; do
  mkdir -p $d
  mount -t tmpfs -o mode=755 none $d
done
`)
}

// sweep ends clusters whose test was killed before it could do so.
func sweep() {
	owners, _ := filepath.Glob(dirPrefix + "*/owner")
	for _, file := range owners {
		var pid, init int
		var start, initStart string
		data, _ := os.ReadFile(file)
		if _, err := fmt.Sscan(string(data), &pid, &start, &init, &initStart); err != nil || startTime(pid) == start {
			continue
		}
		c := &Cluster{Dir: filepath.Dir(file), first: &first{PID: init, start: initStart}}
		c.Close()
	}
}

// plainEnviron is this process' environment without settings of ours.
func plainEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "QEMULET_") })
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually calls f until it returns nil, and fails with its last error when that takes longer than limit.
func eventually(tb testing.TB, limit time.Duration, what string, f func() error) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}
