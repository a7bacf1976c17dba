package netns

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

func veth(index int, name, mac string) *observedLink {
	return &observedLink{link: &netlink.Veth{LinkAttrs: netlink.LinkAttrs{
		Index: index, Name: name, HardwareAddr: hardwareAddr(mac), MTU: 1500, EncapType: "ether",
	}}}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// routes reads "destination" and "destination gateway" pairs.
func routes(list ...string) []Route {
	var out []Route
	for _, s := range list {
		dst, gateway, ok := strings.Cut(s, " ")
		r := Route{Dst: netip.MustParsePrefix(dst)}
		if ok {
			r.Gateway = netip.MustParseAddr(gateway)
		}
		out = append(out, r)
	}
	return out
}

// ofKernel gives routes a metric.
func ofKernel(metric int, routes []Route) []kernelRoute {
	var out []kernelRoute
	for _, r := range routes {
		out = append(out, kernelRoute{r, metric})
	}
	return out
}

func resultOf(ips ...string) *types100.Result {
	r := &types100.Result{}
	for _, s := range ips {
		address, gateway, _ := strings.Cut(s, " ")
		r.IPs = append(r.IPs, &types100.IPConfig{Address: *toIPNet(netip.MustParsePrefix(address)), Gateway: net.ParseIP(gateway)})
	}
	return r
}

func TestPlanRoutes(t *testing.T) {
	tests := []struct {
		name      string
		result    *types100.Result
		addresses []netip.Prefix
		connected []netip.Prefix
		routes    []Route
		reported  []*types.Route
		wantAddr  []netip.Prefix
		want      []Route
	}{
		{
			name:      "subnet and router",
			addresses: prefixes("10.1.0.5/16"), connected: prefixes("10.1.0.0/16"), routes: routes("0.0.0.0/0 10.1.0.1"),
			wantAddr: prefixes("10.1.0.5/16"), want: routes("0.0.0.0/0 10.1.0.1"),
		},
		{
			name:      "Calico: single address, router on the link",
			addresses: prefixes("10.1.0.5/32"), routes: routes("0.0.0.0/0 169.254.1.1", "169.254.1.1/32"),
			wantAddr: prefixes("10.1.0.5/32"), want: routes("169.254.1.1/32", "0.0.0.0/0 169.254.1.1"),
		},
		{
			name:      "router without a route to it",
			addresses: prefixes("10.1.0.5/32"), routes: routes("0.0.0.0/0 169.254.1.1"),
			wantAddr: prefixes("10.1.0.5/32"), want: routes("169.254.1.1/32", "0.0.0.0/0 169.254.1.1"),
		},
		{
			name:      "neighbours behind the router",
			addresses: prefixes("10.1.0.5/24"), routes: routes("10.1.0.0/24 10.1.0.1", "10.1.0.1/32", "0.0.0.0/0 10.1.0.1"),
			wantAddr: prefixes("10.1.0.5/32"), want: routes("10.1.0.1/32", "10.1.0.0/24 10.1.0.1", "0.0.0.0/0 10.1.0.1"),
		},
		{
			name:      "routes only in the result",
			result:    resultOf("10.1.0.5/24 10.1.0.1"),
			addresses: prefixes("10.1.0.5/24"), connected: prefixes("10.1.0.0/24"),
			reported: []*types.Route{{Dst: *toIPNet(netip.MustParsePrefix("0.0.0.0/0"))}, {Dst: *toIPNet(netip.MustParsePrefix("172.16.0.0/12")), GW: net.ParseIP("10.1.0.2")}},
			wantAddr: prefixes("10.1.0.5/24"), want: routes("172.16.0.0/12 10.1.0.2", "0.0.0.0/0 10.1.0.1"),
		},
		{
			name:      "routes of other tables, of the link, and with metrics in the result",
			result:    resultOf("10.1.0.5/24 10.1.0.1"),
			addresses: prefixes("10.1.0.5/24"), connected: prefixes("10.1.0.0/24"),
			reported: []*types.Route{
				{Dst: *toIPNet(netip.MustParsePrefix("0.0.0.0/0")), Table: pointer(100)},
				{Dst: *toIPNet(netip.MustParsePrefix("0.0.0.0/0")), GW: net.ParseIP("10.1.0.9"), Priority: 200},
				{Dst: *toIPNet(netip.MustParsePrefix("0.0.0.0/0")), GW: net.ParseIP("10.1.0.2"), Table: pointer(254), MTU: 1300, AdvMSS: 1200, Priority: 100},
				{Dst: *toIPNet(netip.MustParsePrefix("192.0.2.0/24")), Scope: pointer(253)},
			},
			wantAddr: prefixes("10.1.0.5/24"), want: routes("192.0.2.0/24", "0.0.0.0/0 10.1.0.2"),
		},
		{
			name:      "two addresses on a wire",
			addresses: prefixes("10.1.0.5/31"), connected: prefixes("10.1.0.4/31"), routes: routes("0.0.0.0/0 10.1.0.4"),
			wantAddr: prefixes("10.1.0.5/31"), want: routes("0.0.0.0/0 10.1.0.4"),
		},
		{
			name:      "single IPv6 address, router by another than its link-local address",
			result:    resultOf("fd00::5/128"),
			addresses: prefixes("fd00::5/128"), routes: routes("::/0 fd00::1"),
			wantAddr: prefixes("fd00::5/128"), want: routes("fd00::1/128", "::/0 fd00::1"),
		},
		{
			name:      "IPv6 router by its link-local address",
			result:    resultOf("fd00::5/64"),
			addresses: prefixes("fd00::5/64"), connected: prefixes("fd00::/64"), routes: routes("::/0 fe80::1"),
			wantAddr: prefixes("fd00::5/64"), want: routes("::/0 fe80::1"),
		},
		{
			name:      "route without a next hop",
			addresses: prefixes("10.1.0.5/24"), connected: prefixes("10.1.0.0/24"), routes: routes("10.2.0.0/16", "0.0.0.0/0 10.2.0.1"),
			wantAddr: prefixes("10.1.0.5/24"), want: routes("10.2.0.0/16", "0.0.0.0/0 10.2.0.1"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := veth(2, "eth0", "02:00:00:00:00:01")
			o.addresses, o.connected, o.routes = tt.addresses, tt.connected, ofKernel(0, tt.routes)
			if tt.result == nil {
				tt.result = resultOf(tt.addresses[0].String())
			}
			tt.result.Routes = tt.reported
			nics, err := plan(tt.result, []*observedLink{o}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if nic := nics[0].nic; !reflect.DeepEqual(nic.Addresses, tt.wantAddr) || !reflect.DeepEqual(nic.Routes, tt.want) {
				t.Errorf("addresses %v, routes %v\nwant      %v, routes %v", nic.Addresses, nic.Routes, tt.wantAddr, tt.want)
			}
		})
	}
}

func TestPlanOrderAndRepair(t *testing.T) {
	a, b, c := veth(2, "eth0", "02:00:00:00:00:01"), veth(3, "net1", "02:00:00:00:00:02"), veth(4, "l2", "02:00:00:00:00:03")
	a.addresses, b.addresses = prefixes("10.1.0.5/24"), prefixes("10.2.0.5/24", "10.2.0.6/24")
	r := resultOf("10.2.0.6/24", "10.1.0.5/24", "10.2.0.5/24")
	r.IPs[0].Interface = types100.Int(7) // out of range: the kernel is believed
	r.Interfaces = []*types100.Interface{{Name: "veth123"}, {Name: "l2", Sandbox: "/x"}, {Name: "eth0", Sandbox: "/x"}, {Name: "ghost", Sandbox: "/x"}}
	nics, err := plan(r, []*observedLink{a, b, c}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range nics {
		names = append(names, p.nic.Name)
	}
	if strings.Join(names, " ") != "net1 eth0 l2" || nics[0].nic.Addresses[0].Addr().String() != "10.2.0.6" {
		t.Errorf("order %v, first %+v", names, nics[0].nic)
	}
	r.IPs = append(r.IPs, r.IPs[0]) // twice
	r.IPs = append(r.IPs, resultOf("fe80::5/64").IPs...)
	if _, err := plan(r, []*observedLink{a, b, c}, 1); err != nil {
		t.Errorf("with a link-local address: %v", err)
	}
	if ips := podIPs(r); len(ips) != 3 || ips[0].String() != "10.2.0.6" {
		t.Errorf("pod addresses %v", ips)
	}
}

func pointer(i int) *int { return &i }

// TestLinksThatAreNotReported: of several networks Multus reports the first one only; addresses that the kernel makes of router
// advertisements make no NIC, and are the guest's own to make; a card needs no address.
func TestLinksThatAreNotReported(t *testing.T) {
	eth0, net1, net2 := veth(2, "eth0", "02:00:00:00:00:01"), veth(3, "net1", "02:00:00:00:00:02"), veth(4, "net2", "02:00:00:00:00:03")
	eth0.addresses, eth0.passing = prefixes("2001:db8::aaaa/64", "10.1.0.5/24", "2001:db8::5/64"), []netip.Addr{netip.MustParseAddr("2001:db8::aaaa"), netip.MustParseAddr("2001:db8::5")}
	net1.addresses = prefixes("10.2.0.5/24")
	net2.addresses, net2.passing = prefixes("2001:db8::bbbb/64"), []netip.Addr{netip.MustParseAddr("2001:db8::bbbb")}
	net3, port, gre := veth(5, "net3", "02:00:00:00:00:04"), veth(6, "port", "02:00:00:00:00:05"), veth(7, "gretap0", "02:00:00:00:00:06")
	net3.link.Attrs().ParentDevBus, port.link.Attrs().ParentDevBus, port.link.Attrs().MasterIndex = "pci", "pci", 9
	for _, o := range []*observedLink{eth0, net1, net2} {
		o.connected = prefixes("10.1.0.0/24", "10.2.0.0/24", "2001:db8::/64")
	}
	nics, err := plan(resultOf("10.1.0.5/24", "2001:db8::5/64"), []*observedLink{eth0, net1, net2, net3, port, gre}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(nics) != 3 || nics[0].nic.Name != "eth0" || nics[1].nic.Name != "net1" || nics[2].nic.Name != "net3" {
		t.Fatalf("NICs %+v", nics)
	}
	if got := nics[0].nic.Addresses; !reflect.DeepEqual(got, prefixes("10.1.0.5/24", "2001:db8::5/64")) {
		t.Errorf("addresses %v", got)
	}
}

// TestMetrics: a guest is told one route to each destination, the one that a container would take.
func TestMetrics(t *testing.T) {
	eth0, net1 := veth(2, "eth0", "02:00:00:00:00:01"), veth(3, "net1", "02:00:00:00:00:02")
	eth0.addresses, eth0.connected = prefixes("10.1.0.5/24"), prefixes("10.1.0.0/24")
	net1.addresses = prefixes("10.2.0.5/32", "fd00::5/64")
	eth0.routes = append(ofKernel(0, routes("10.9.0.0/16 10.1.0.1")), ofKernel(200, routes("0.0.0.0/0 10.1.0.1", "172.16.0.0/12 10.1.0.1", "169.254.1.1/32"))...)
	net1.routes = append(ofKernel(100, routes("0.0.0.0/0 169.254.1.1", "169.254.1.1/32", "10.9.0.0/16 169.254.1.1")), ofKernel(1024, routes("::/0 fe80::1"))...)
	nics, err := plan(resultOf("10.1.0.5/24", "10.2.0.5/32"), []*observedLink{eth0, net1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := nics[0].nic, routes("10.9.0.0/16 10.1.0.1", "172.16.0.0/12 10.1.0.1"); !reflect.DeepEqual(got.Routes, want) || len(got.Gateways) != 0 {
		t.Errorf("eth0: %+v, want routes %v", got, want)
	}
	if got, want := nics[1].nic, routes("169.254.1.1/32", "0.0.0.0/0 169.254.1.1", "::/0 fe80::1"); len(got.Gateways) != 2 || !sameSet(got.Routes, want) {
		t.Errorf("net1: %+v, want routes %v", got, want)
	}

	net1.routes = ofKernel(100, routes("0.0.0.0/0 169.254.1.1", "169.254.1.1/32", "192.0.2.0/24 169.254.1.1"))
	eth0.routes = ofKernel(0, routes("0.0.0.0/0 10.1.0.1", "169.254.1.1/32"))
	if nics, err = plan(resultOf("10.1.0.5/24", "10.2.0.5/32"), []*observedLink{eth0, net1}, 1); err != nil {
		t.Fatal(err)
	}
	if got, want := nics[1].nic.Routes, routes("169.254.1.1/32", "192.0.2.0/24 169.254.1.1"); !reflect.DeepEqual(got, want) {
		t.Errorf("next hop of the same address on both links: %v, want %v", got, want)
	}
}

func sameSet(a, b []Route) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(r Route) bool { return !slices.Contains(b, r) })
}

func TestPlanRefuses(t *testing.T) {
	ok := func() *observedLink {
		o := veth(2, "eth0", "02:00:00:00:00:01")
		o.addresses = prefixes("10.1.0.5/24")
		return o
	}
	ipvlan := &observedLink{link: &netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{Name: "eth0", EncapType: "ether"}}, addresses: prefixes("10.1.0.5/24")}
	infiniband := ok()
	infiniband.link.Attrs().EncapType = "infiniband"
	netkit := ok()
	netkit.link.Attrs().HardwareAddr = hardwareAddr("00:00:00:00:00:00")
	twin := veth(3, "net1", "02:00:00:00:00:01")
	twin.addresses = prefixes("10.1.0.6/24")
	vlan := func(master, namespace int) *observedLink {
		return &observedLink{link: &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Index: 3, Name: "eth0.42", HardwareAddr: hardwareAddr("02:00:00:00:00:03"),
			EncapType: "ether", ParentIndex: master, NetNsID: namespace}}, addresses: prefixes("10.1.0.6/24")}
	}
	tests := map[string]struct {
		result   *types100.Result
		observed []*observedLink
		is       error
	}{
		"vlan of the node's link 2": {resultOf("10.1.0.5/24", "10.1.0.6/24"), []*observedLink{ok(), vlan(2, 0)}, nil},
		"vlan of the pod's link 2":  {resultOf("10.1.0.5/24", "10.1.0.6/24"), []*observedLink{ok(), vlan(2, -1)}, ErrUnsupportedLink},
		"vlan of an unused link":    {resultOf("10.1.0.5/24", "10.1.0.6/24"), []*observedLink{ok(), vlan(4, -1)}, nil},
		"no address":                {resultOf(), []*observedLink{ok()}, ErrBadResult},
		"only a link-local address": {resultOf("fe80::5/64"), []*observedLink{ok()}, ErrBadResult},
		"unknown address":           {resultOf("10.9.9.9/24"), []*observedLink{ok()}, ErrBadResult},
		"no link":                   {resultOf("10.1.0.5/24"), nil, ErrBadResult},
		"ipvlan":                    {resultOf("10.1.0.5/24"), []*observedLink{ipvlan}, ErrUnsupportedLink},
		"infiniband":                {resultOf("10.1.0.5/24"), []*observedLink{infiniband}, ErrUnsupportedLink},
		"no MAC":                    {resultOf("10.1.0.5/24"), []*observedLink{netkit}, ErrUnsupportedLink},
		"same MAC":                  {resultOf("10.1.0.5/24", "10.1.0.6/24"), []*observedLink{ok(), twin}, ErrBadResult},
	}
	for name, tt := range tests {
		_, err := plan(tt.result, tt.observed, 1)
		if !errors.Is(err, tt.is) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "ipvlan" && !strings.Contains(err.Error(), "link eth0 is of the kind ipvlan, which hands out packets") {
			t.Errorf("%s is not refused by its name: %v", name, err)
		}
	}
}

func TestResultDNS(t *testing.T) {
	r := &types100.Result{DNS: types.DNS{Nameservers: []string{"10.0.0.1", "nonsense", "fd00::1"}, Domain: "example.org"}}
	if dns := resultDNS(r); len(dns.Servers) != 2 || dns.Searches[0] != "example.org" {
		t.Errorf("DNS %+v", dns)
	}
}

func TestHardwareAddr(t *testing.T) {
	var mac HardwareAddr
	if err := mac.UnmarshalText([]byte("0A:58:0A:F4:00:05")); err != nil || mac.String() != "0a:58:0a:f4:00:05" {
		t.Errorf("%s, %v", mac, err)
	}
	for _, bad := range []string{"", "x", "0a:58:0a:f4:00", "00:00:00:00:fe:80:00:00"} {
		if err := mac.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestRandomMAC(t *testing.T) {
	for range 32 {
		if mac := randomMAC(); mac[0]&3 != 2 {
			t.Fatalf("%s is not a locally administered unicast address", mac)
		}
	}
}

// TestMappedAddresses: IPv4 in the notation of IPv6 is IPv4.
func TestMappedAddresses(t *testing.T) {
	o := veth(2, "eth0", "02:00:00:00:00:01")
	o.addresses, o.connected = prefixes("10.1.0.5/24"), prefixes("10.1.0.0/24")
	r := resultOf("::ffff:10.1.0.5/120 ::ffff:10.1.0.1")
	r.Routes = []*types.Route{{Dst: *toIPNet(netip.MustParsePrefix("::ffff:172.16.0.0/108"))}, {Dst: *toIPNet(netip.MustParsePrefix("::ffff:0.0.0.0/64"))}}
	nics, err := plan(r, []*observedLink{o}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := nics[0].nic, routes("172.16.0.0/12 10.1.0.1"); !reflect.DeepEqual(got.Routes, want) || !podIPs(r)[0].Is4() {
		t.Errorf("interface %+v, want routes %v, addresses %v", got, want, podIPs(r))
	}
}
