package netns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dualNet is the bridge network with both families, IPv6 first.
func dualNet(n *testNode) string {
	return conflist(fmt.Sprintf(`{"type":"bridge","bridge":%q,"isGateway":true,"ipMasq":true,"ipam":%s}`, n.bridgeName(), n.dualIPAM()))
}

func (n *testNode) dualIPAM() string {
	return fmt.Sprintf(`{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"%s"}],[{"subnet":%q}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`, n.ipam, n.subnet6(), n.subnet())
}

func (n *testNode) subnet6() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd00:%x::/64", n.number))
}

func TestDualStack(t *testing.T) {
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, dualNet)
			n.o.Plumbing = plumbing
			dualStack(t, n, true)
		})
	}
}

// TestPointToPointIPv6: every neighbour is behind the router.
func TestPointToPointIPv6(t *testing.T) {
	n := newNode(t, func(n *testNode) string {
		return conflist(fmt.Sprintf(`{"type":"ptp","ipMasq":true,"ipam":%s}`, n.dualIPAM()))
	})
	dualStack(t, n, false)
}

// TestIPv6Only: no IPv4 is offered, and nothing lacks it.
func TestIPv6Only(t *testing.T) {
	n := newNode(t, func(n *testNode) string {
		return conflist(fmt.Sprintf(`{"type":"bridge","bridge":%q,"isGateway":true,"ipam":{"type":"host-local","dataDir":%q,
			"ranges":[[{"subnet":"%s"}]],"routes":[{"dst":"::/0"}]}}`, n.bridgeName(), n.ipam, n.subnet6()))
	})
	quickAddresses(n)
	p := testPod(1)
	p.DNS.Servers = []netip.Addr{netip.MustParseAddr("fd00::53")}
	network := n.setup(p)
	if ips := network.IPs(); len(ips) != 1 || !n.subnet6().Contains(ips[0]) {
		t.Fatalf("pod addresses %v", ips)
	}
	guest := newGuest(t, n, network, 0)
	for e := range guest.startDHCP("-n", "-t", "2").events {
		if e["EVENT"] == "bound" {
			t.Errorf("DHCPv4 gave %s", e["ip"])
		}
	}
	guest.acceptRouters()
	if router := guest.routerOf(); !router.IsLinkLocalUnicast() {
		t.Errorf("router %s", router)
	}
	guest.startDHCP6(network.IPs()[0])
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	n.must(err)
	_ = conn.Close()
	n.teardown(p)
	n.assertClean()
}

func dualStack(t *testing.T, n *testNode, neighbours bool) {
	quickAddresses(n)
	wire := startCapture(t)
	p := testPod(1)
	p.DNS.Servers = append(p.DNS.Servers, netip.MustParseAddr("fd00::53"))
	network := n.setup(p)
	ips := network.IPs()
	if len(ips) != 2 || !ips[0].Is4() || !n.subnet6().Contains(ips[1]) {
		t.Fatalf("pod addresses %v", ips)
	}
	guest := newGuest(t, n, network, 0)
	if told := guest.startDHCP().wait("bound"); told["ip"] != ips[0].String() {
		t.Errorf("DHCPv4: ip %s", told["ip"])
	}
	guest.acceptRouters()
	router := guest.routerOf()
	if !router.IsLinkLocalUnicast() {
		t.Errorf("router %s", router)
	}
	if got := guest.hasNeighbours(n.subnet6()); got != neighbours {
		t.Errorf("neighbours on the link: %v", got)
	}
	guest.startDHCP6(ips[1])

	port := guest.listen()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).Dial("tcp", net.JoinHostPort(ips[1].String(), fmt.Sprint(port)))
	if err != nil {
		t.Fatalf("the node does not reach the guest by IPv6: %v", err)
	}
	_ = conn.Close()
	// A server that only listens for IPv6 is found as well.
	conn, err = network.DialFromNode(t.Context(), "tcp", guest.listenOn("tcp6"))
	n.must(err)
	_ = conn.Close()
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP or router advertisements on the CNI side: %+v", leaked)
	}

	n.must(network.Close())
	n.restart()
	again, err := n.Open(t.Context(), network.Record())
	n.must(err)
	guest.startDHCP6(again.IPs()[1])
	n.teardown(p)
	if rules := natRules(t); strings.Contains(rules, p.ID) {
		t.Errorf("rules left behind:\n%s", rules)
	}
	n.assertClean()
}

// quickAddresses makes the addresses of the node its own at once, as those of a node that has run for a second are.
func quickAddresses(n *testNode) {
	n.t.Helper()
	n.must(writeSysctl("net/ipv6/conf/default/accept_dad", "0"))
	n.must(writeSysctl("net/ipv6/conf/all/accept_dad", "0"))
}

// acceptRouters makes the guest believe router advertisements, and ask for them.
func (g *testGuest) acceptRouters() {
	g.t.Helper()
	err := within(g.ns, func() error {
		for _, s := range []struct{ path, value string }{
			{"accept_ra", "2"}, {"accept_ra_rt_info_max_plen", "128"}, {"dad_transmits", "0"}, {"router_solicitation_interval", "1"},
			{"disable_ipv6", "1"}, {"disable_ipv6", "0"},
		} {
			if err := writeSysctl("net/ipv6/conf/eth0/"+s.path, s.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// routes6 waits until the guest's IPv6 routes are as wanted.
func (g *testGuest) routes6(wanted func([]netlink.Route) bool) []netlink.Route {
	g.t.Helper()
	var found []netlink.Route
	inNamespace(g.t, g.path, func(l *links) error {
		updates, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
		ns, err := vnetns.Get()
		if err != nil {
			return err
		}
		defer func() { _ = ns.Close() }()
		if err := netlink.RouteSubscribeAt(ns, updates, done); err != nil {
			return err
		}
		defer func() {
			close(done)
			for range updates { // until the subscription has ended
			}
		}()
		timeout := time.After(20 * time.Second)
		for {
			if found, err = l.RouteList(nil, netlink.FAMILY_V6); err != nil || wanted(found) {
				return err
			}
			select {
			case <-updates:
			case <-timeout:
				return fmt.Errorf("the guest's routes are %v", found)
			}
		}
	})
	return found
}

// routerOf waits for the guest's default route.
func (g *testGuest) routerOf() netip.Addr {
	g.t.Helper()
	isDefault := func(r netlink.Route) bool {
		return r.Protocol == unix.RTPROT_RA && r.Gw != nil && (r.Dst == nil || r.Dst.IP.IsUnspecified())
	}
	all := g.routes6(func(all []netlink.Route) bool { return slices.ContainsFunc(all, isDefault) })
	return toAddr(all[slices.IndexFunc(all, isDefault)].Gw)
}

// hasNeighbours reports whether a subnet is on the guest's link.
func (g *testGuest) hasNeighbours(subnet netip.Prefix) bool {
	all := g.routes6(func([]netlink.Route) bool { return true })
	return slices.ContainsFunc(all, func(r netlink.Route) bool {
		dst, ok := toPrefix(r.Dst)
		return ok && dst == subnet && r.Gw == nil
	})
}

// startDHCP6 asks for an address as a client does, and takes it.
func (g *testGuest) startDHCP6(want netip.Addr) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	var client *nclient6.Client
	err := within(g.ns, func() (err error) {
		client, err = nclient6.New("eth0", nclient6.WithTimeout(time.Second), nclient6.WithRetry(10))
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	advertised, err := client.Solicit(ctx)
	if err != nil {
		g.t.Fatalf("solicit: %v", err)
	}
	reply, err := client.Request(ctx, advertised)
	if err != nil {
		g.t.Fatalf("request: %v", err)
	}
	given := reply.Options.OneIANA().Options.Addresses()
	if len(given) != 1 || toAddr(given[0].IPv6Addr) != want || given[0].ValidLifetime != 24*time.Hour {
		g.t.Fatalf("DHCPv6 gives %v, want %s", given, want)
	}
	if dns := reply.Options.DNS(); len(dns) != 1 || dns[0].String() != "fd00::53" {
		g.t.Errorf("DHCPv6: name servers %v", dns)
	}
	if search := reply.Options.DomainSearchList(); search == nil || search.Labels[0] != "default.svc.cluster.local" {
		g.t.Errorf("DHCPv6: search list %v", search)
	}
	if id, ok := reply.Options.ServerID().(*dhcpv6.DUIDLL); !ok || id.HWType != iana.HWTypeEthernet || !bytes.HasPrefix(id.LinkLayerAddr, []byte{2, 0, 169}) {
		g.t.Errorf("DHCPv6: server %v", reply.Options.ServerID())
	}
	inNamespace(g.t, g.path, func(l *links) error {
		link, err := l.find("eth0")
		if err != nil {
			return err
		}
		return l.AddrReplace(link, &netlink.Addr{IPNet: toIPNet(netip.PrefixFrom(want, 128)), Flags: unix.IFA_F_NODAD})
	})
}
