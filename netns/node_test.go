package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const pluginDir = "/usr/lib/cni"

var nodes atomic.Int32

// testNode is a Manager with directories, a subnet and a bridge of its own.
type testNode struct {
	*Manager
	t      testing.TB
	number int
	root   string
	conf   string // directory
	ipam   string // host-local's directory
	bin    string // directory for fake plugins, searched first
}

func newNode(t testing.TB, conflist func(n *testNode) string) *testNode {
	t.Helper()
	for _, plugin := range []string{"bridge", "host-local", "ptp", "portmap"} {
		if _, err := os.Stat(filepath.Join(pluginDir, plugin)); err != nil {
			t.Fatalf("the CNI plugins are needed (Debian's containernetworking-plugins): %v", err)
		}
	}
	root := t.TempDir()
	n := &testNode{t: t, number: int(nodes.Add(1)), root: root,
		conf: filepath.Join(root, "conf"), ipam: filepath.Join(root, "ipam"), bin: filepath.Join(root, "bin")}
	for _, dir := range []string{n.conf, n.bin} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.restart()
	t.Cleanup(func() {
		for unix.Unmount(n.o.NetnsDir, unix.MNT_DETACH) == nil { // until nothing is mounted
		}
	})
	if conflist != nil {
		n.configure("10-test.conflist", conflist(n))
	}
	return n
}

// restart replaces the Manager, as a restart of the daemon does.
func (n *testNode) restart() {
	m, err := NewManager(Options{
		ConfDir:       n.conf,
		BinDirs:       []string{n.bin, pluginDir},
		CacheDir:      filepath.Join(n.root, "cache"),
		NetnsDir:      filepath.Join(n.root, "netns"),
		PluginTimeout: 20 * time.Second,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.Manager = m
}

func (n *testNode) configure(file, content string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.conf, file), []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *testNode) bridgeName() string { return fmt.Sprintf("cni%d", n.number) }
func (n *testNode) subnet() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("10.88.%d.0/24", n.number))
}
func (n *testNode) gateway() netip.Addr { return n.subnet().Addr().Next() }

func (n *testNode) ipamConf() string {
	return fmt.Sprintf(`{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":%q}]],"routes":[{"dst":"0.0.0.0/0"}]}`, n.ipam, n.subnet())
}

// bridgeNet is what clusters of this kind look like, with plugins chained to it.
func bridgeNet(chained ...string) func(*testNode) string {
	return func(n *testNode) string {
		bridge := fmt.Sprintf(`{"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"mtu":1460,"ipam":%s}`, n.bridgeName(), n.ipamConf())
		return conflist(append([]string{bridge}, chained...)...)
	}
}

func ptpNet(n *testNode) string {
	return conflist(fmt.Sprintf(`{"type":"ptp","ipMasq":true,"ipam":%s}`, n.ipamConf()))
}

func conflist(plugins ...string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"podnet","plugins":[%s]}`, strings.Join(plugins, ","))
}

// plugin writes a fake plugin: a shell script. $0.log gets one line per call.
func (n *testNode) plugin(name, script string) {
	n.t.Helper()
	text := "#!/bin/sh\necho \"$CNI_COMMAND netns=$CNI_NETNS\" >>\"$0.log\"\nin=$(cat)\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(n.bin, name), []byte(text), 0o755); err != nil {
		n.t.Fatal(err)
	}
}

// calls returns the commands a fake plugin was asked for.
func (n *testNode) calls(name string) string {
	raw, err := os.ReadFile(filepath.Join(n.bin, name+".log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	var commands []string
	for line := range strings.Lines(string(raw)) {
		commands = append(commands, strings.Fields(line)[0])
	}
	return strings.Join(commands, " ")
}

// testPod returns a pod of the latest node. Ids differ between nodes: plugins name their firewall chains after them.
func testPod(i int) Pod {
	id := fmt.Sprintf("716d6c74%040x%016x", nodes.Load(), i)
	return Pod{
		ID: id, Name: fmt.Sprintf("vm-%d", i), Namespace: "default", UID: fmt.Sprintf("uid-%d", i),
		NetnsName: fmt.Sprintf("%s%012x", Prefix, i), Hostname: fmt.Sprintf("vm-%d", i),
		DNS: DNS{Servers: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local"}},
	}
}

func (n *testNode) setup(p Pod) *Network {
	n.t.Helper()
	network, err := n.Setup(n.t.Context(), p)
	if err != nil {
		n.t.Fatalf("Setup: %v", err)
	}
	n.t.Cleanup(func() {
		if err := n.Teardown(context.Background(), p); err != nil {
			n.t.Errorf("Teardown at the end: %v", err)
		}
	})
	return network
}

func (n *testNode) teardown(p Pod) {
	n.t.Helper()
	if err := n.Teardown(n.t.Context(), p); err != nil {
		n.t.Fatalf("Teardown: %v", err)
	}
}

// assertClean verifies that nothing of any pod is left.
func (n *testNode) assertClean() {
	n.t.Helper()
	for what, dir := range map[string]string{
		"namespace": n.o.NetnsDir, "journal entry": n.journalDir(), "cached result": n.resultsDir(),
		"address": filepath.Join(n.ipam, "podnet"),
	} {
		for _, name := range leases(n.t, dir) {
			n.t.Errorf("left behind: %s %s/%s", what, dir, name)
		}
	}
	n.assertNoPorts()
}

// assertNoPorts waits for links to go: when a namespace is removed under them, the kernel does that in its own time.
func (n *testNode) assertNoPorts() {
	n.t.Helper()
	updates, done := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		n.t.Fatal(err)
	}
	defer func() {
		close(done)
		for range updates { // until the subscription has ended
		}
	}()
	timeout := time.After(10 * time.Second)
	for left := n.ports(); len(left) > 0; left = n.ports() {
		select {
		case <-updates:
		case <-timeout:
			n.t.Errorf("left behind: links %v on %s", left, n.bridgeName())
			return
		}
	}
}

// leases lists a directory without host-local's files that are no leases.
func leases(t testing.TB, dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "last_reserved_ip") {
			names = append(names, e.Name())
		}
	}
	return names
}

// ports returns the links on the node's bridge.
func (n *testNode) ports() []string {
	bridge, err := netlink.LinkByName(n.bridgeName())
	if err != nil {
		return nil
	}
	list, err := netlink.LinkList()
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

// inPod runs fn inside a pod's namespace.
func inPod(t *testing.T, r Record, fn func(l *links) error) {
	t.Helper()
	inNamespace(t, r.NetnsPath, fn)
}

func inNamespace(t *testing.T, path string, fn func(l *links) error) {
	t.Helper()
	ns, err := openNamespace(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	err = within(ns, func() error {
		l, err := openLinks()
		if err != nil {
			return err
		}
		defer l.Close()
		return fn(l)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// openFDs counts this process's descriptors.
func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// assertFDs verifies that this process has as many descriptors as before. A subscription to links has ended for its reader a
// moment before its socket is closed.
func assertFDs(t *testing.T, before int) {
	t.Helper()
	now := openFDs(t)
	for end := time.Now().Add(5 * time.Second); now != before && time.Now().Before(end); now = openFDs(t) {
		time.Sleep(10 * time.Millisecond)
	}
	if now != before {
		t.Errorf("%d descriptors before, %d after", before, now)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func linkNames(l *links) []string {
	list, _ := l.LinkList()
	var names []string
	for _, link := range list {
		names = append(names, link.Attrs().Name)
	}
	slices.Sort(names)
	return names
}

func hardwareAddr(s string) net.HardwareAddr {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}

// natRules lists the node's NAT rules.
func natRules(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("iptables-save", "-t", "nat").CombinedOutput()
	if err != nil {
		t.Fatalf("iptables-save: %v: %s", err, out)
	}
	return string(out)
}

// removeLeases makes host-local forget every address.
func (n *testNode) removeLeases() {
	n.t.Helper()
	dir := filepath.Join(n.ipam, "podnet")
	for _, name := range leases(n.t, dir) {
		n.must(os.Remove(filepath.Join(dir, name)))
	}
}

// read returns what a fake plugin has written.
func (n *testNode) read(file string) string {
	n.t.Helper()
	raw, err := os.ReadFile(filepath.Join(n.bin, file))
	n.must(err)
	return string(raw)
}
