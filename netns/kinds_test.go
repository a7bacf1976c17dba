package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inPlace is the network of a fake plugin that makes a link of a kind of its own and runs add with a name that is free
// (u) and the addresses of its subnet. Its result says what the link has.
func inPlace(t *testing.T, add string) *testNode {
	t.Helper()
	n := newNode(t, func(n *testNode) string { return conflist(`{"type":"fake"}`) })
	prefix := strings.TrimSuffix(n.gateway().String(), ".1")
	n.plugin("fake", fmt.Sprintf(`u=k%[1]d ip=%[2]s.5/24 gw=%[2]s.1
		inpod() { nsenter --net=$CNI_NETNS "$@"; }
		[ $CNI_COMMAND = DEL ] && { ip link del $u 2>/dev/null; exit 0; }
		{ %[3]s ; } >&2 || exit 1
		inpod sh -c "ip addr show eth0" | grep -q $ip || inpod ip addr add $ip dev eth0
		inpod ip link set eth0 up; inpod ip route add default via $gw dev eth0
		echo '{"cniVersion":"1.0.0","ips":[{"address":"'$ip'"}]}'`, n.number, prefix, add))
	return n
}

// uplink makes a veth pair whose far end, with the gateway's address, stands for the network behind a node's own link.
const uplink = `ip link add $u type veth peer name far-$u && ip link set $u up && ip link set far-$u up && ip addr add $gw/24 dev far-$u && `

func TestKindsOfLinks(t *testing.T) {
	tests := map[string]struct {
		add  string
		want Plumbing
	}{
		"macvlan": {uplink + `ip link add link $u name mv-$u netns $CNI_NETNS type macvlan mode bridge && inpod ip link set mv-$u name eth0`, PlumbingRedirect},
		"macvtap": {uplink + `ip link add link $u name mt-$u netns $CNI_NETNS type macvtap mode bridge && inpod ip link set mt-$u name eth0`, PlumbingRedirect},
		"a device": {`ip link add $u type veth peer name far-$u && ip link set $u netns $CNI_NETNS name eth0 && ip link set far-$u up &&
			ip addr add $gw/24 dev far-$u`, PlumbingRedirect},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := inPlace(t, tt.add)
			wire := startCapture(t)
			if name != "a device" {
				n.o.Plumbing = PlumbingBridge // which does not work for this kind, and so is not done
			}
			network := n.setup(testPod(1))
			if nic := network.Interfaces()[0]; nic.Plumbing != tt.want {
				t.Errorf("interface %+v", nic)
			}
			n.must(n.Check(t.Context(), network.Record()))
			guest := newGuest(t, n, network, 0)
			told := guest.startDHCP().wait("bound")
			if told["ip"] != network.IPs()[0].String() {
				t.Errorf("DHCP: %v", told)
			}
			conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
			n.must(err)
			_ = conn.Close()
			assertNeighbour(t, network.IPs()[0], network.Interfaces()[0].MAC)
			if leaked := wire.packets(); len(leaked) > 0 {
				t.Errorf("DHCP on the CNI side: %+v", leaked)
			}
			n.teardown(testPod(1))
		})
	}
}

func macvlanNet(n *testNode) string {
	return conflist(fmt.Sprintf(`{"type":"macvlan","master":"up%d","mtu":1400,"ipam":%s}`, n.number, n.ipamConf()))
}

// uplink makes the link that macvlan's are on, and the gateway behind it.
func (n *testNode) uplink() {
	n.t.Helper()
	l, err := openLinks()
	n.must(err)
	defer l.Close()
	up, far := fmt.Sprintf("up%d", n.number), fmt.Sprintf("far%d", n.number)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = up
	n.must(l.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far}))
	for _, name := range []string{up, far} {
		link, err := l.LinkByName(name)
		n.must(err)
		n.must(l.LinkSetUp(link))
		if name == far {
			n.must(l.AddrAdd(link, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(n.gateway(), 24))}))
		}
	}
}

// TestRealMacvlan takes the plugin that is in use.
func TestRealMacvlan(t *testing.T) {
	n := newNode(t, macvlanNet)
	n.uplink()
	network := n.setup(testPod(1))
	nic := network.Interfaces()[0]
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["mtu"] != "1400" || nic.MTU != 1400 {
		t.Errorf("DHCP %v, interface %+v", told, nic)
	}
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	inPod(t, network.Record(), func(l *links) error {
		link, err := l.existing("eth0")
		if err == nil && link.Attrs().Allmulti == 0 {
			t.Error("the link drops the guest's multicast")
		}
		return err
	})
	n.teardown(testPod(1))
	n.assertClean()
}

// TestTapOfThePlugins: the guest's frames are the link's; in the pod's namespace a router answers, as one of a plugin's
// would.
func TestTapOfThePlugins(t *testing.T) {
	for name, flags := range map[string]string{"one queue": "", "many queues": "multi_queue"} {
		t.Run(name, func(t *testing.T) {
			n := inPlace(t, `inpod ip tuntap add dev eth0 mode tap `+flags)
			p := testPod(1)
			p.Queues = 2
			network := n.setup(p)
			nic := network.Interfaces()[0]
			if want := 1 + len(flags)/len("multi_queue"); nic.Plumbing != PlumbingDirect || nic.Tap != "eth0" || nic.Queues != want {
				t.Errorf("interface %+v", nic)
			}
			n.must(n.Check(t.Context(), network.Record()))
			files, err := network.OpenTap(0, nic.Queues)
			n.must(err)
			closeAll(files)
			if nic.Queues > 1 {
				return
			}
			told := newGuest(t, n, network, 0).startDHCP().wait("bound")
			if told["ip"] != network.IPs()[0].String() {
				t.Errorf("DHCP %v", told)
			}
			inPod(t, network.Record(), func(l *links) error {
				link, err := l.existing("eth0")
				if err == nil && link.Attrs().HardwareAddr.String() == nic.MAC.String() {
					t.Error("both ends have the same MAC address")
				}
				return err
			})
		})
	}
}

func TestLinksThatCannotCarryAGuest(t *testing.T) {
	for name, tt := range map[string]struct{ add, want string }{
		"tun":    {`inpod ip tuntap add dev eth0 mode tun`, "eth0 is of the kind tuntap, but not Ethernet (a tun)"},
		"bridge": {`inpod ip link add eth0 type bridge`, "eth0 is of the kind bridge"},
	} {
		t.Run(name, func(t *testing.T) {
			n := inPlace(t, tt.add)
			_, err := n.Setup(t.Context(), testPod(1))
			if !errors.Is(err, ErrUnsupportedLink) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "veth, macvlan") {
				t.Errorf("Setup: %v", err)
			}
			n.assertClean()
		})
	}
}

// TestBridgeWhereRedirectionFails: a plugin has put a filter of its own where ours would be.
func TestBridgeWhereRedirectionFails(t *testing.T) {
	const occupy = `[ $CNI_COMMAND = DEL ] || { nsenter --net=$CNI_NETNS sh -c "tc qdisc add dev eth0 clsact
		tc filter add dev eth0 ingress pref 2 protocol all u32 match u32 0 0 classid 1:1" >&2; ` + prevResult + `; }`
	n := newNode(t, chainedFake)
	n.plugin("fake", occupy)
	network := n.setup(testPod(1))
	if nic := network.Interfaces()[0]; nic.Plumbing != PlumbingBridge || nic.Bridge != "br0" {
		t.Errorf("interface %+v", nic)
	}
	n.must(n.checkLinksOf(network))
	guest := newGuest(t, n, network, 0)
	guest.startDHCP().wait("bound")
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()

	n.o.Plumbing = PlumbingRedirect
	if _, err := n.Setup(t.Context(), testPod(2)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Setup that must redirect: %v", err)
	}
}

func (n *testNode) checkLinksOf(network *Network) error { return checkLinks(network.Record()) }

// TestNamesOfThePlugins: links of theirs may be called as ours would be.
func TestNamesOfThePlugins(t *testing.T) {
	n := newNode(t, chainedFake)
	n.o.Plumbing = PlumbingBridge
	n.plugin("fake", `[ $CNI_COMMAND = DEL ] || { nsenter --net=$CNI_NETNS sh -c "ip tuntap add tap0 mode tap; ip link add br0 type bridge" >&2; `+prevResult+`; }`)
	network := n.setup(testPod(1))
	if nic := network.Interfaces()[0]; nic.Tap != "vmtap0" || nic.Bridge != "vmbr0" {
		t.Errorf("interface %+v", nic)
	}
	newGuest(t, n, network, 0).startDHCP().wait("bound")
}

func TestQueues(t *testing.T) {
	n := newNode(t, bridgeNet())
	p := testPod(1)
	p.Queues = 3
	network := n.setup(p)
	files, err := network.OpenTap(0, 3)
	n.must(err)
	closeAll(files)
	if _, err := network.OpenTap(0, 4); err == nil || !strings.Contains(err.Error(), "made for 3") {
		t.Errorf("more queues than there are: %v", err)
	}
	files, err = network.OpenTap(0, 1)
	n.must(err)
	closeAll(files)
	if _, err := os.Stat(network.Record().NetnsPath); err != nil {
		t.Error(err)
	}
}

func TestPlumbingOption(t *testing.T) {
	_, err := NewManager(Options{Plumbing: "carrier-pigeon"})
	if err == nil || !strings.Contains(err.Error(), `"carrier-pigeon"`) || !strings.Contains(err.Error(), `"redirect"`) {
		t.Errorf("NewManager: %v", err)
	}
}

// TestResultVersions: what a plugin of each version of the specification reports.
func TestResultVersions(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			n := newNode(t, func(*testNode) string {
				return fmt.Sprintf(`{"cniVersion":%q,"name":"podnet","plugins":[{"type":"fake"}]}`, version)
			})
			n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = ADD ] || exit 0
				nsenter --net=$CNI_NETNS sh -c "ip link add eth0 type veth peer name far; ip addr add %[2]s/24 dev eth0; ip link set eth0 up" >&2
				echo '{"cniVersion":"%[1]s","interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"version":"4","interface":0,"address":"%[2]s/24"}]}'`,
				version, n.gateway()))
			network := n.setup(testPod(1))
			if nics := network.Interfaces(); len(nics) != 1 || nics[0].Name != "eth0" || network.IPs()[0] != n.gateway() {
				t.Errorf("interfaces %+v", nics)
			}
			n.teardown(testPod(1))
		})
	}
}
