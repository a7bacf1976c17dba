package netns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestTwoInterfaces chains a plugin that adds a second link, as delegating plugins do.
func TestTwoInterfaces(t *testing.T) {
	n := newNode(t, chainedFake)
	second := fmt.Sprintf("10.89.%d", n.number)
	n.plugin("fake", fmt.Sprintf(`
		[ $CNI_COMMAND = DEL ] && exit 0
		ip link add second%[1]d type veth peer name tmp%[1]d && ip link set tmp%[1]d netns $CNI_NETNS
		nsenter --net=$CNI_NETNS sh -ec "ip link set tmp%[1]d name net1; ip link set net1 address 06:AA:00:00:00:01 mtu 9000 up
			ip addr add %[2]s.7/24 dev net1; ip route add 172.20.0.0/16 via %[2]s.1; ip route add 172.21.0.0/16 dev net1"
		ip link set second%[1]d up
		%[3]s | sed 's|"ips":\[|"ips":[{"address":"%[2]s.7/24"},|'`, n.number, second, prevResult))
	wire := startCapture(t)
	network := n.setup(testPod(1))
	nics := network.Interfaces()
	if len(nics) != 2 {
		t.Fatalf("interfaces %+v", nics)
	}
	if nics[0].Name != "net1" || nics[1].Name != "eth0" || nics[0].Tap != "tap0" || nics[1].Tap != "tap1" || nics[0].MTU != 9000 {
		t.Errorf("the result's order was not kept: %+v", nics)
	}
	told := newGuest(t, n, network, 0).startDHCP("-O", "121").wait("bound")
	want := "172.21.0.0/16 0.0.0.0 169.254.254.2/32 0.0.0.0 172.20.0.0/16 " + second + ".1"
	if told["ip"] != second+".7" || told["mtu"] != "9000" || !sameRoutes(told["staticroutes"], want) {
		t.Errorf("first NIC: ip %s, mtu %s, staticroutes %q, want %q", told["ip"], told["mtu"], told["staticroutes"], want)
	}
	told = newGuest(t, n, network, 1).startDHCP().wait("bound")
	if !n.subnet().Contains(netip.MustParseAddr(told["ip"])) || told["router"] != n.gateway().String() {
		t.Errorf("second NIC: ip %s, router %s", told["ip"], told["router"])
	}
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP on the CNI side: %+v", leaked)
	}
	n.teardown(testPod(1))
	n.assertClean()
}

// TestMultus: the network of a second plugin, which reports nothing of it, as Multus does; both networks have a default route.
func TestMultus(t *testing.T) {
	n := newNode(t, chainedFake)
	n.uplink()
	second := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"second","type":"macvlan","master":"up%d","mtu":1400,"ipam":{"type":"host-local","dataDir":%q,
		"ranges":[[{"subnet":"10.89.%[1]d.0/24"}]],"routes":[{"dst":"0.0.0.0/0","priority":500},{"dst":"172.20.0.0/16"}]}}`, n.number, n.ipam)
	n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = CHECK ] && exit 0
		made=$(echo '%s' | CNI_IFNAME=net1 CNI_PATH=%s %[2]s/macvlan) || { echo "$made"; exit 1; }
		[ $CNI_COMMAND = DEL ] || { nsenter --net=$CNI_NETNS sh -c "ip route del default dev net1; ip route add default via 10.89.%d.1 dev net1 metric 500" >&2; %s; }`,
		second, pluginDir, n.number, prevResult))
	wire := startCapture(t)
	network := n.setup(testPod(1))
	nics := network.Interfaces()
	if len(nics) != 2 || nics[0].Name != "eth0" || nics[1].Name != "net1" || nics[1].Plumbing != PlumbingRedirect || len(network.IPs()) != 1 {
		t.Fatalf("interfaces %+v, addresses %v", nics, network.IPs())
	}
	if told := newGuest(t, n, network, 0).startDHCP().wait("bound"); told["router"] != n.gateway().String() || told["staticroutes"] != "" {
		t.Errorf("first NIC: router %s, staticroutes %q", told["router"], told["staticroutes"])
	}
	told := newGuest(t, n, network, 1).startDHCP("-O", "121").wait("bound")
	want := fmt.Sprintf("169.254.254.2/32 0.0.0.0 172.20.0.0/16 10.89.%d.1", n.number)
	if !strings.HasPrefix(told["ip"], fmt.Sprintf("10.89.%d.", n.number)) || told["router"] != "" || !sameRoutes(told["staticroutes"], want) {
		t.Errorf("second NIC: ip %s, router %s, staticroutes %q, want %q", told["ip"], told["router"], told["staticroutes"], want)
	}
	n.must(n.Check(t.Context(), network.Record()))
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP on the CNI side: %+v", leaked)
	}
	n.teardown(testPod(1))
	n.assertClean()
	if left := leases(t, n.ipam+"/second"); len(left) > 0 {
		t.Errorf("left behind: addresses %v", left)
	}
}

// TestSeveralAddressesOfAnInterface: all are the pod's, DHCP can give one.
func TestSeveralAddressesOfAnInterface(t *testing.T) {
	n := newNode(t, func(n *testNode) string {
		return conflist(fmt.Sprintf(`{"type":"bridge","bridge":%q,"mtu":1280,"ipam":{"type":"static","addresses":[
			{"address":"10.88.%d.5/24","gateway":%q},{"address":"10.90.%[2]d.5/32"},{"address":"10.91.%[2]d.5/31"}],"routes":[{"dst":"0.0.0.0/0"}]}}`,
			n.bridgeName(), n.number, n.gateway()))
	})
	network := n.setup(testPod(1))
	nics := network.Interfaces()
	want := fmt.Sprintf("[10.88.%d.5/24 10.90.%[1]d.5/32 10.91.%[1]d.5/31]", n.number)
	if len(nics) != 1 || fmt.Sprint(nics[0].Addresses) != want || len(network.IPs()) != 3 {
		t.Fatalf("interfaces %+v, want addresses %s", nics, want)
	}
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["ip"] != network.IPs()[0].String() || told["mtu"] != "1280" || told["mask"] != "24" {
		t.Errorf("DHCP: ip %s/%s, mtu %s", told["ip"], told["mask"], told["mtu"])
	}
	n.teardown(testPod(1))
	n.assertClean()
}

// sameRoutes compares lists of destination and next hop, whatever their order.
func sameRoutes(a, b string) bool {
	sorted := func(s string) []string {
		fields := strings.Fields(s)
		var pairs []string
		for i := 0; i+1 < len(fields); i += 2 {
			pairs = append(pairs, fields[i]+" "+fields[i+1])
		}
		slices.Sort(pairs)
		return pairs
	}
	return slices.Equal(sorted(a), sorted(b))
}

// TestOldConfigurations: single plugin files, and versions of the specification before there were interfaces in results.
func TestOldConfigurations(t *testing.T) {
	for _, version := range []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"} {
		t.Run(version, func(t *testing.T) {
			n := newNode(t, nil)
			n.configure("10-old.conf", fmt.Sprintf(`{"cniVersion":%q,"name":"podnet","type":"bridge","bridge":%q,"isGateway":true,"ipam":%s}`,
				version, n.bridgeName(), n.ipamConf()))
			network := n.setup(testPod(1))
			nic := network.Interfaces()[0]
			if nic.Name != "eth0" || len(nic.Gateways) != 1 || nic.Gateways[0] != n.gateway() {
				t.Errorf("interface %+v", nic)
			}
			n.must(n.Check(t.Context(), network.Record()))
			n.teardown(testPod(1))
			n.assertClean()
		})
	}
}
