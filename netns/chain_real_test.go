package netns

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// realChain is what clusters chain, of one version of the specification.
func realChain(version string) func(*testNode) string {
	return func(n *testNode) string {
		return fmt.Sprintf(`{"cniVersion":%q,"name":"podnet","plugins":[
			{"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"mtu":9000,"ipam":%s},
			{"type":"tuning","dataDir":%q,"capabilities":{"mac":true}},
			{"type":"bandwidth","capabilities":{"bandwidth":true}},
			{"type":"portmap","capabilities":{"portMappings":true}}]}`, version, n.bridgeName(), n.dualIPAM(), filepath.Join(n.root, "tuning"))
	}
}

// TestRealChainOfEachVersion: plugins that are in use, and that speak to each other in each version that they know.
func TestRealChainOfEachVersion(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0"} {
		t.Run(version, func(t *testing.T) {
			n := newNode(t, realChain(version))
			quickAddresses(n)
			p := testPod(1)
			p.MAC = HardwareAddr(hardwareAddr(tunedMAC))
			p.PortMappings = []PortMapping{{HostPort: 18082, ContainerPort: 80}}
			p.Capabilities = map[string]any{"bandwidth": map[string]uint64{"ingressRate": 8e8, "ingressBurst": 8e8}}
			network := n.setup(p)
			nics := network.Interfaces()
			if len(nics) != 1 || nics[0].MTU != 9000 || nics[0].MAC.String() != tunedMAC || len(nics[0].Gateways) != 2 || len(network.IPs()) != 2 || len(network.Record().Unclaimed) > 0 {
				t.Errorf("interfaces %+v, addresses %v", nics, network.IPs())
			}
			guest := newGuest(t, n, network, 0)
			if told := guest.startDHCP().wait("bound"); told["mtu"] != "9000" || told["router"] != n.gateway().String() {
				t.Errorf("DHCP: %v", told)
			}
			conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
			n.must(err)
			said, _ := io.ReadAll(conn)
			if _ = conn.Close(); string(said) != "hello from the guest" {
				t.Errorf("the guest said %q", said)
			}
			// portmap 1.1 looks for IPv6 rules that it has not made; all others agree.
			if err := n.Check(t.Context(), network.Record()); err != nil && !strings.Contains(err.Error(), "could not check ipv6 dnat") {
				t.Errorf("Check: %v", err)
			}
			n.teardown(p)
			if rules := natRules(t); strings.Contains(rules, "18082") || strings.Contains(rules, p.ID) {
				t.Errorf("rules left behind:\n%s", rules)
			}
			n.assertClean()
		})
	}
}

// TestRoutesByAnotherTable: sbr moves the routes of a link to a table of their own, which a guest's one table does not have. What the
// result says of them is what the guest is told.
func TestRoutesByAnotherTable(t *testing.T) {
	n := newNode(t, bridgeNet(`{"type":"sbr"}`, `{"type":"firewall"}`))
	network := n.setup(testPod(1))
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["router"] != n.gateway().String() {
		t.Errorf("DHCP: router %q", told["router"])
	}
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	n.teardown(testPod(1))
	n.assertClean()
}

// TestHostDevice: a link of the node is the guest's as long as the pod lives, and comes back as it was.
func TestHostDevice(t *testing.T) {
	n := newNode(t, func(n *testNode) string {
		return conflist(fmt.Sprintf(`{"type":"host-device","device":"up%d","ipam":{"type":"static","addresses":[{"address":"10.88.%[1]d.5/24","gateway":%q}],
			"routes":[{"dst":"0.0.0.0/0"}]}}`, n.number, n.gateway()))
	})
	n.uplink()
	device := fmt.Sprintf("up%d", n.number)
	before, err := netlink.LinkByName(device)
	n.must(err)
	network := n.setup(testPod(1))
	guest := newGuest(t, n, network, 0)
	guest.startDHCP().wait("bound")
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	n.teardown(testPod(1))
	after, err := netlink.LinkByName(device)
	n.must(err)
	a, b := before.Attrs(), after.Attrs()
	if a.HardwareAddr.String() != b.HardwareAddr.String() || a.MTU != b.MTU || b.MasterIndex != 0 || b.Allmulti != 0 {
		t.Errorf("the link came back as %+v, was %+v", b, a)
	}
	if qdiscs, _ := netlink.QdiscList(after); strings.Contains(fmt.Sprint(qdiscs), "clsact") {
		t.Errorf("its filters came along: %v", qdiscs)
	}
}

// TestAddressesWithPeers: some plugins name what is at the other end of a link by an address's peer, and not by a route.
func TestAddressesWithPeers(t *testing.T) {
	n := newNode(t, func(*testNode) string { return conflist(`{"type":"fake"}`) })
	gateway, ip := n.gateway(), n.gateway().Next()
	n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = ADD ] || { nsenter --net=$CNI_NETNS ip -4 addr show eth0 >"$0.found"; ip link del far%[1]d; exit 0; }
		{ ip link add far%[1]d type veth peer name eth0 netns $CNI_NETNS && ip addr add %[2]s/32 dev far%[1]d && ip link set far%[1]d up && ip route add %[3]s/32 dev far%[1]d
		nsenter --net=$CNI_NETNS sh -ec "ip addr add %[3]s peer %[2]s/32 dev eth0; ip link set eth0 up; ip route add default via %[2]s" ; } >&2 || exit 1
		echo '{"cniVersion":"1.0.0","ips":[{"address":"127.0.0.1/8"},{"address":"%[3]s/32"}]}'`, n.number, gateway, ip))
	network := n.setup(testPod(1))
	if got := network.Interfaces()[0]; !sameSet(got.Routes, routes(gateway.String()+"/32", "0.0.0.0/0 "+gateway.String())) || fmt.Sprint(network.IPs()) != fmt.Sprint([]netip.Addr{ip}) {
		t.Errorf("interface %+v, addresses %v", got, network.IPs())
	}
	inPod(t, network.Record(), func(l *links) error {
		assertMute(t, l)
		return nil
	})
	guest := newGuest(t, n, network, 0)
	guest.startDHCP().wait("bound")
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	n.teardown(testPod(1))
	if found := n.read("fake.found"); !strings.Contains(found, fmt.Sprintf("inet %s peer %s/32", ip, gateway)) {
		t.Errorf("at its end the plugin found %s", found)
	}
	n.assertClean()
}
