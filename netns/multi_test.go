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
