package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const tunedMAC = "0a:58:0a:00:00:99"

// tuned is the bridge network with the plugin tuning chained to it. more are fields of its configuration.
func tuned(more string) func(*testNode) string {
	return func(n *testNode) string {
		return bridgeNet(fmt.Sprintf(`{"type":"tuning","dataDir":%q,"mtu":1380,"sysctl":{"net.core.somaxconn":"500"}%s}`, filepath.Join(n.root, "tuning"), more))(n)
	}
}

// TestTuning takes the plugin that is in use: what it sets on the pod's link is the guest's, and its CHECK agrees.
func TestTuning(t *testing.T) {
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, tuned(`,"mac":"`+tunedMAC+`"`))
			n.o.Plumbing = plumbing
			network := n.setup(testPod(1))
			assertTuned(t, n, network)
			err := n.Check(t.Context(), network.Record())
			if wants := plumbing == PlumbingBridge; wants != (err != nil) {
				t.Errorf("Check: %v", err) // by a bridge the link has another address than the guest
			}
			inPod(t, network.Record(), func(*links) error {
				value, err := os.ReadFile("/proc/sys/net/core/somaxconn")
				if strings.TrimSpace(string(value)) != "500" {
					t.Errorf("somaxconn of the pod's namespace is %q", value)
				}
				return err
			})
			n.teardown(testPod(1))
			n.assertClean()
		})
	}
}

// assertTuned verifies that MAC address and MTU are those that tuning has set: on both sides of the tap, by DHCP, and for the
// node, to which the guest talks.
func assertTuned(t *testing.T, n *testNode, network *Network) {
	t.Helper()
	nic := network.Interfaces()[0]
	if nic.MTU != 1380 || nic.MAC.String() != tunedMAC {
		t.Errorf("interface %+v", nic)
	}
	inPod(t, network.Record(), func(l *links) error {
		tap, err := l.existing(nic.Tap)
		if err == nil && tap.Attrs().MTU != 1380 {
			t.Errorf("the tap's MTU is %d", tap.Attrs().MTU)
		}
		return err
	})
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["mtu"] != "1380" || told["ip"] != network.IPs()[0].String() {
		t.Errorf("DHCP: mtu %s, ip %s", told["mtu"], told["ip"])
	}
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	assertNeighbour(t, network.IPs()[0], nic.MAC)
}

// TestTuningGrantsMACs: the address that a pod asks for, or had before a reboot, is given by the plugin at the end of the chain.
func TestTuningGrantsMACs(t *testing.T) {
	mac := HardwareAddr(hardwareAddr(tunedMAC))
	for name, ask := range map[string]func(*Pod){
		"asked for": func(p *Pod) { p.MAC = mac },
		"kept":      func(p *Pod) { p.KeepMACs = map[string]HardwareAddr{"eth0": mac} },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tuned(`,"capabilities":{"mac":true}`))
			p := testPod(1)
			ask(&p)
			network := n.setup(p)
			assertTuned(t, n, network)
			n.must(n.Check(t.Context(), network.Record()))
			n.teardown(p)
			n.assertClean()
		})
	}
}

// TestManyPluginsInAChain: what clusters chain is undone in one piece, and only by its own plugins.
func TestManyPluginsInAChain(t *testing.T) {
	n := newNode(t, func(n *testNode) string {
		return tuned(`},{"type":"bandwidth","capabilities":{"bandwidth":true}},{"type":"portmap","capabilities":{"portMappings":true}`)(n)
	})
	p := testPod(1)
	p.PortMappings = []PortMapping{{HostPort: 18081, ContainerPort: 80}}
	p.Capabilities = map[string]any{"bandwidth": map[string]uint64{"ingressRate": 8e8, "ingressBurst": 8e8}}
	network := n.setup(p)
	newGuest(t, n, network, 0).startDHCP().wait("bound")
	// portmap 1.1 looks for IPv6 rules that it has not made; all others agree.
	if err := n.Check(t.Context(), network.Record()); err != nil && !strings.Contains(err.Error(), "could not check ipv6 dnat") {
		t.Errorf("Check: %v", err)
	}
	n.teardown(p)
	if rules := natRules(t); strings.Contains(rules, "18081") || strings.Contains(rules, p.ID) {
		t.Errorf("rules left behind:\n%s", rules)
	}
	n.assertClean()
}

// vlanNet is the plugin vlan on a link of the node, as for machines that are in VLANs of the data centre.
func vlanNet(n *testNode) string {
	return conflist(fmt.Sprintf(`{"type":"vlan","master":"up%d","vlanId":42,"mtu":1400,"ipam":%s}`, n.number, n.ipamConf()))
}

// needVLAN makes VLAN 42 on the far end of the uplink, with the gateway's address, or skips the test.
func (n *testNode) needVLAN() {
	n.t.Helper()
	n.uplink()
	l, err := openLinks()
	n.must(err)
	defer l.Close()
	far, err := l.LinkByName(fmt.Sprintf("far%d", n.number))
	n.must(err)
	_ = exec.Command("modprobe", "8021q").Run() // where it is built in there is no module
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = fmt.Sprintf("vlan%d", n.number), far.Attrs().Index
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: 42, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	err = l.LinkAdd(vlan)
	if errors.Is(err, unix.EOPNOTSUPP) {
		n.t.Skipf("this kernel has no VLANs (its module 8021q): %v", err)
	}
	n.must(err)
	n.must(l.LinkSetUp(vlan))
	n.must(l.AddrDel(far, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(n.gateway(), 24))}))
	n.must(l.AddrAdd(vlan, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(n.gateway(), 24))}))
}

// TestRealVLAN takes the plugin that is in use. The guest's frames are tagged on the wire, and those of the VLAN come to it.
func TestRealVLAN(t *testing.T) {
	n := newNode(t, vlanNet)
	n.needVLAN()
	n.o.Plumbing = PlumbingBridge // which does not work for this kind, and so is not done
	wire := startCapture(t)
	network := n.setup(testPod(1))
	nic := network.Interfaces()[0]
	if nic.Plumbing != PlumbingRedirect || nic.MTU != 1400 {
		t.Errorf("interface %+v", nic)
	}
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["mtu"] != "1400" || told["ip"] != network.IPs()[0].String() {
		t.Errorf("DHCP: %v", told)
	}
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	assertNeighbour(t, network.IPs()[0], nic.MAC)
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP on the CNI side: %+v", leaked)
	}
	n.must(n.Check(t.Context(), network.Record()))
	n.teardown(testPod(1))
	n.assertClean()
}

// TestLinksOnALinkOfThePod: a chain makes the second interface on the first one.
func TestLinksOnALinkOfThePod(t *testing.T) {
	for kind, add := range map[string]string{
		"macvlan": "type macvlan mode bridge", "vlan": "address 06:aa:00:00:00:01 type vlan id 42",
	} {
		t.Run(kind, func(t *testing.T) {
			n := newNode(t, func(n *testNode) string {
				return conflist(fmt.Sprintf(`{"type":"ptp","ipam":%s}`, n.ipamConf()), `{"type":"fake"}`)
			})
			if kind == "vlan" {
				n.needVLAN()
			}
			n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = DEL ] && exit 0
				nsenter --net=$CNI_NETNS sh -ec "ip link add link eth0 name net1 %s; ip addr add 10.89.%d.7/24 dev net1; ip link set net1 up" >&2
				%s | sed 's|"ips":\[|"ips":[{"address":"10.89.%[2]d.7/24"},|'`, add, n.number, prevResult))
			_, err := n.Setup(t.Context(), testPod(1))
			if !errors.Is(err, ErrUnsupportedLink) || !strings.Contains(err.Error(), "link net1 is a "+kind+" on link eth0") {
				t.Errorf("Setup: %v", err)
			}
			n.assertClean()
		})
	}
}
