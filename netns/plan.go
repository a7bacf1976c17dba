package netns

import (
	"fmt"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

// plannedNIC is a link that becomes a NIC of the guest.
type plannedNIC struct {
	observed   *observedLink
	nic        Interface
	bridgeName string   // of the bridge, if there will be one
	vf         *savedVF // if it is to be passed through
}

// plan joins what the plugins report with what they made. The order of the NICs is the order of the result's addresses,
// then of its remaining interfaces; everything else is believed of the kernel rather than of the report, in which
// indexes, routes and gateways are often wrong or missing.
func plan(result *types100.Result, observed []*observedLink, queues int) ([]*plannedNIC, error) {
	if len(result.IPs) == 0 {
		return nil, fmt.Errorf("netns: %w: it has no address", ErrBadResult)
	}
	ordered, err := order(result, observed)
	if err != nil {
		return nil, err
	}
	if err := checkStacked(ordered); err != nil {
		return nil, err
	}
	var nics []*plannedNIC
	macs := make(map[string]string)
	for i, o := range ordered {
		nic, err := planNIC(result, o, queues)
		if err != nil {
			return nil, err
		}
		if nic.Tap == "" {
			nic.Tap = freeName(observed, "tap", i)
		}
		if other, twice := macs[nic.MAC.String()]; twice {
			return nil, fmt.Errorf("netns: %w: links %s and %s have the same MAC address %s", ErrBadResult, other, nic.Name, nic.MAC)
		}
		macs[nic.MAC.String()] = nic.Name
		nics = append(nics, &plannedNIC{observed: o, nic: nic, bridgeName: freeName(observed, "br", i)})
	}
	return nics, nil
}

func order(result *types100.Result, observed []*observedLink) ([]*observedLink, error) {
	var ordered []*observedLink
	add := func(o *observedLink) {
		if !slices.Contains(ordered, o) {
			ordered = append(ordered, o)
		}
	}
	for _, ip := range result.IPs {
		addr := toAddr(ip.Address.IP)
		i := slices.IndexFunc(observed, func(o *observedLink) bool { return o.has(addr) })
		if i < 0 {
			return nil, fmt.Errorf("netns: %w: address %s is on no link in the pod's namespace", ErrBadResult, addr)
		}
		add(observed[i])
	}
	for _, reported := range result.Interfaces {
		i := slices.IndexFunc(observed, func(o *observedLink) bool { return reported.Sandbox != "" && o.name() == reported.Name })
		if i >= 0 {
			add(observed[i])
		}
	}
	return ordered, nil
}

// freeName is the prefix with a number, unless the plugins have a link of that name.
func freeName(observed []*observedLink, prefix string, i int) string {
	name := fmt.Sprintf("%s%d", prefix, i)
	if slices.ContainsFunc(observed, func(o *observedLink) bool { return o.name() == name }) {
		return "vm" + name
	}
	return name
}

func planNIC(result *types100.Result, o *observedLink, queues int) (Interface, error) {
	if err := checkKind(o); err != nil {
		return Interface{}, err
	}
	attrs := o.link.Attrs()
	nic := Interface{
		Name:   attrs.Name,
		MAC:    HardwareAddr(attrs.HardwareAddr),
		MTU:    attrs.MTU,
		Queues: queues,
	}
	if tap, ok := o.link.(*netlink.Tuntap); ok {
		nic.Plumbing, nic.Tap = PlumbingDirect, attrs.Name
		if tap.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 {
			nic.Queues = 1
		}
	}
	for _, p := range inOrderOf(result, o.addresses) {
		nic.Addresses = append(nic.Addresses, reachable(p, o))
	}
	nic.Routes = guestRoutes(result, o, nic.Addresses)
	for _, r := range nic.Routes {
		if r.IsDefault() && r.Gateway.IsValid() {
			nic.Gateways = append(nic.Gateways, r.Gateway)
		}
	}
	return nic, nil
}

// checkKind refuses links that do not work when the guest is in the place of a container.
func checkKind(o *observedLink) error {
	kind, attrs := o.link.Type(), o.link.Attrs()
	refuse := func(why string) error {
		return fmt.Errorf("netns: %w: link %s is of the kind %s, %s; veth, macvlan, macvtap, vlan, tap and Ethernet devices are accepted",
			ErrUnsupportedLink, attrs.Name, kind, why)
	}
	tap, isTap := o.link.(*netlink.Tuntap)
	switch {
	case kind == "ipvlan" || kind == "ipvtap":
		return refuse("which hands out packets by the addresses that it has itself, and so none to a guest")
	case kind == "bridge":
		return refuse("whose ports are in the pod's namespace as well")
	case isTap && tap.Mode != netlink.TUNTAP_MODE_TAP:
		return refuse("but not Ethernet (a tun)")
	case attrs.EncapType != "ether" || len(attrs.HardwareAddr) != 6:
		return refuse("but not Ethernet")
	}
	return nil
}

// checkStacked refuses links on a link that is a NIC as well: all that comes in by that one is the guest's before they see it.
func checkStacked(ordered []*observedLink) error {
	for _, upper := range ordered {
		attrs := upper.link.Attrs()
		switch upper.link.(type) {
		case *netlink.Vlan, *netlink.Macvlan, *netlink.Macvtap:
		default:
			continue
		}
		if attrs.NetNsID >= 0 {
			continue // its master is in another namespace
		}
		i := slices.IndexFunc(ordered, func(lower *observedLink) bool { return lower.index() == attrs.ParentIndex })
		if i >= 0 {
			return fmt.Errorf("netns: %w: link %s is a %s on link %s, which is the guest's as a whole; in the guest such a link can be made, or by the plugin on a link of the node",
				ErrUnsupportedLink, attrs.Name, upper.link.Type(), ordered[i].name())
		}
	}
	return nil
}

// inOrderOf sorts addresses as the result lists them; those that it does not list come last.
func inOrderOf(result *types100.Result, addresses []netip.Prefix) []netip.Prefix {
	position := func(p netip.Prefix) int {
		i := slices.IndexFunc(result.IPs, func(ip *types100.IPConfig) bool { return toAddr(ip.Address.IP) == p.Addr() })
		if i < 0 {
			return len(result.IPs)
		}
		return i
	}
	sorted := slices.Clone(addresses)
	slices.SortStableFunc(sorted, func(a, b netip.Prefix) int { return position(a) - position(b) })
	return sorted
}

// reachable narrows an address to itself if its subnet is not on the link, as with plugins that route every neighbour.
func reachable(p netip.Prefix, o *observedLink) netip.Prefix {
	if slices.Contains(o.connected, p.Masked()) {
		return p
	}
	return netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
}

// guestRoutes returns a link's routes as the kernel has them; where there are none, those that the result reports.
func guestRoutes(result *types100.Result, o *observedLink, addresses []netip.Prefix) []Route {
	routes := slices.Clone(o.routes)
	if len(routes) == 0 {
		routes = reportedRoutes(result, o)
	}
	for _, r := range slices.Clone(routes) {
		if r.Gateway.IsValid() && !onLink(r.Gateway, addresses, routes) {
			routes = append(routes, Route{Dst: netip.PrefixFrom(r.Gateway, r.Gateway.BitLen())})
		}
	}
	slices.SortStableFunc(routes, compareRoutes)
	return slices.Compact(routes)
}

func reportedRoutes(result *types100.Result, o *observedLink) []Route {
	gateways := make(map[bool]netip.Addr) // by whether it is IPv4
	for _, ip := range result.IPs {
		gateway := toAddr(ip.Gateway)
		if o.has(toAddr(ip.Address.IP)) && gateway.IsValid() && !gateways[gateway.Is4()].IsValid() {
			gateways[gateway.Is4()] = gateway
		}
	}
	var routes []Route
	for _, r := range result.Routes {
		dst, ok := toPrefix(&r.Dst)
		gateway := toAddr(r.GW)
		if ok && !gateway.IsValid() {
			gateway = gateways[dst.Addr().Is4()]
		}
		if ok && gateway.IsValid() && leadsThrough(gateway, o) {
			routes = append(routes, Route{Dst: dst.Masked(), Gateway: gateway})
		}
	}
	return routes
}

// leadsThrough reports whether a reported gateway is behind this link and not behind another one.
func leadsThrough(gateway netip.Addr, o *observedLink) bool {
	return slices.ContainsFunc(o.addresses, func(p netip.Prefix) bool { return p.Contains(gateway) || p.IsSingleIP() })
}

// onLink reports whether a next hop is reachable without a route of its own.
func onLink(gateway netip.Addr, addresses []netip.Prefix, routes []Route) bool {
	if gateway.Is6() && gateway.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return !p.IsSingleIP() && p.Contains(gateway) }) ||
		slices.ContainsFunc(routes, func(r Route) bool { return !r.Gateway.IsValid() && !r.IsDefault() && r.Dst.Contains(gateway) })
}

// compareRoutes puts on-link routes first and default routes last, so that next hops are reachable in this order.
func compareRoutes(a, b Route) int {
	if a.Gateway.IsValid() != b.Gateway.IsValid() {
		if b.Gateway.IsValid() {
			return -1
		}
		return 1
	}
	if a.Dst.Bits() != b.Dst.Bits() {
		return b.Dst.Bits() - a.Dst.Bits()
	}
	return a.Dst.Addr().Compare(b.Dst.Addr())
}

// podIPs returns the result's addresses in order, but the first IPv4 address before all others.
func podIPs(result *types100.Result) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range result.IPs {
		ips = append(ips, toAddr(ip.Address.IP))
	}
	if i := slices.IndexFunc(ips, netip.Addr.Is4); i > 0 {
		first := ips[i]
		ips = slices.Insert(slices.Delete(ips, i, i+1), 0, first)
	}
	return ips
}

// resultDNS returns the DNS of a result, leaving out servers that are not addresses.
func resultDNS(result *types100.Result) DNS {
	dns := DNS{Searches: result.DNS.Search, Options: result.DNS.Options}
	if len(dns.Searches) == 0 && result.DNS.Domain != "" {
		dns.Searches = []string{result.DNS.Domain}
	}
	for _, s := range result.DNS.Nameservers {
		if addr, err := netip.ParseAddr(s); err == nil {
			dns.Servers = append(dns.Servers, addr)
		}
	}
	return dns
}
