package netns

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTeardownIsIdempotent(t *testing.T) {
	n := newNode(t, bridgeNet())
	n.teardown(testPod(7)) // never set up
	fds := openFDs(t)
	n.setup(testPod(1))
	n.teardown(testPod(1))
	n.teardown(testPod(1))
	n.assertClean()
	assertFDs(t, fds)
}

// TestTeardownWithWhatIsLeft loses what a crash or a reboot loses, and expects the address to be released all the same.
func TestTeardownWithWhatIsLeft(t *testing.T) {
	reboot := func(n *testNode, p Pod) { n.must(removeNamespace(n.netnsPath(p))) }
	noJournal := func(n *testNode, p Pod) { n.must(n.removeJournal(p.ID)) }
	noResult := func(n *testNode, p Pod) { n.must(os.Remove(n.resultPath("podnet", p.ID))) }
	emptyResult := func(n *testNode, p Pod) { n.must(os.Truncate(n.resultPath("podnet", p.ID), 0)) }
	tests := map[string][]func(*testNode, Pod){
		"after a reboot":          {reboot},
		"without a result":        {noResult},
		"with an empty result":    {emptyResult},
		"without a journal":       {noJournal},
		"with an empty journal":   {func(n *testNode, p Pod) { n.must(os.Truncate(n.journalPath(p.ID), 0)) }},
		"with nothing but its id": {reboot, noJournal, noResult},
		"with another configuration": {func(n *testNode, _ Pod) {
			n.configure("10-test.conflist", `{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"unicorn"}]}`)
		}},
		"without a configuration": {func(n *testNode, _ Pod) { n.must(os.Remove(filepath.Join(n.conf, "10-test.conflist"))) }},
		"with a mount on the mount": {func(n *testNode, p Pod) {
			n.must(unix.Mount("/proc/self/ns/net", n.netnsPath(p), "", unix.MS_BIND, ""))
		}},
		"with an ordinary file there": {reboot, func(n *testNode, p Pod) { n.must(os.WriteFile(n.netnsPath(p), nil, 0o600)) }},
	}
	for name, losses := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, bridgeNet())
			p := testPod(1)
			n.must(n.setup(p).Close())
			for _, lose := range losses {
				lose(n, p)
			}
			n.restart()
			n.must(n.Teardown(t.Context(), Pod{ID: p.ID, NetnsName: p.NetnsName}))
			n.assertClean()
		})
	}
}

// TestTeardownKeepsOffTheNode: where a pod's namespace was is the node's own, whose links may be called as a pod's.
func TestTeardownKeepsOffTheNode(t *testing.T) {
	n := newNode(t, bridgeNet())
	p := testPod(1)
	n.must(n.setup(p).Close())
	n.must(unix.Mount("/proc/self/ns/net", n.netnsPath(p), "", unix.MS_BIND, ""))
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "eth0", hardwareAddr(tunedMAC)
	n.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0-far"}))
	defer func() { _ = netlink.LinkDel(&netlink.Veth{LinkAttrs: attrs}) }()
	n.restart()
	n.teardown(p)
	link, err := netlink.LinkByName("eth0")
	n.must(err)
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	n.must(err)
	if got := link.Attrs().HardwareAddr.String(); got != tunedMAC || len(addrs) > 0 {
		t.Errorf("the node's own eth0 has the MAC address %s and the addresses %v", got, addrs)
	}
	n.assertClean()
}

func (n *testNode) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestTeardownAsksEveryPlugin: one that fails must not keep the others from releasing what they hold, and is asked again.
func TestTeardownAsksEveryPlugin(t *testing.T) {
	n := newNode(t, chainedFake)
	n.plugin("fake", `[ $CNI_COMMAND = DEL ] && { echo "not today" >&2; exit 1; }; `+prevResult)
	p := testPod(1)
	network, err := n.Setup(t.Context(), p)
	n.must(err)
	err = n.Teardown(t.Context(), p)
	var failure *PluginError
	if !errors.As(err, &failure) || failure.Plugin != "fake" || failure.Command != "DEL" || !strings.Contains(err.Error(), "not today") {
		t.Fatalf("Teardown: %v", err)
	}
	if held := leases(t, filepath.Join(n.ipam, "podnet")); len(held) > 0 {
		t.Errorf("still held: %v", held)
	}
	if _, err := os.Stat(network.Record().NetnsPath); err != nil {
		t.Errorf("the namespace did not wait for the next attempt: %v", err)
	}
	n.plugin("fake", `case "$in" in *prevResult*) ;; *) echo "no previous result" >&2; exit 1 ;; esac`)
	n.teardown(p)
	n.assertClean()
}

// TestUndoThatFails: the namespace goes, the journal stays, and Teardown finishes.
func TestUndoThatFails(t *testing.T) {
	n := newNode(t, chainedFake)
	n.plugin("fake", `echo "$CNI_COMMAND: never" >&2; exit 1`)
	_, err := n.Setup(t.Context(), testPod(1))
	if !errors.Is(err, ErrUndo) || !strings.Contains(err.Error(), "ADD: never") || !strings.Contains(err.Error(), "DEL: never") {
		t.Errorf("Setup: %v", err)
	}
	if held := leases(t, filepath.Join(n.ipam, "podnet")); len(held) > 0 {
		t.Errorf("the other plugins were not asked; still held: %v", held)
	}
	pods, err := n.Attachments()
	n.must(err)
	if len(pods) != 1 || pods[0].ID != testPod(1).ID {
		t.Errorf("attachments %v", pods)
	}
	n.plugin("fake", `:`)
	n.teardown(pods[0])
	n.assertClean()
}

func TestMissingPluginOnTeardown(t *testing.T) {
	n := newNode(t, chainedFake)
	n.plugin("fake", `[ $CNI_COMMAND = DEL ] || `+prevResult)
	n.setup(testPod(1))
	n.must(os.Remove(filepath.Join(n.bin, "fake")))
	if err := n.Teardown(t.Context(), testPod(1)); err == nil || !strings.Contains(err.Error(), `"fake"`) {
		t.Errorf("Teardown: %v", err)
	}
	if held := leases(t, filepath.Join(n.ipam, "podnet")); len(held) > 0 {
		t.Errorf("the other plugins were not asked; still held: %v", held)
	}
	n.plugin("fake", `:`)
}

func TestStray(t *testing.T) {
	n := newNode(t, bridgeNet())
	if names, err := n.Stray(t.Context(), nil); err != nil || len(names) > 0 {
		t.Errorf("stray on a fresh node: %v, %v", names, err)
	}
	n.setup(testPod(1))
	stray := testPod(2)
	if _, err := n.Setup(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	n.must(createNamespace(filepath.Join(n.o.NetnsDir, "cni-someone-elses"), func() error { return nil }))
	names, err := n.Stray(t.Context(), func(name string) bool { return name == testPod(1).NetnsName })
	n.must(err)
	if !slices.Equal(names, []string{stray.NetnsName}) {
		t.Errorf("stray %v", names)
	}
	n.teardown(Pod{NetnsName: stray.NetnsName}) // the journal knows its id
	n.teardown(testPod(1))
	n.must(removeNamespace(filepath.Join(n.o.NetnsDir, "cni-someone-elses")))
	n.assertClean()
}
