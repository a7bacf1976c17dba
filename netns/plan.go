package netns

import (
	"bytes"
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

// plan joins what the plugins report with what they made. The order of the NICs is the order of the result's addresses, then of
// its remaining interfaces, then that in which the links were made; everything else is believed of the kernel rather than of the
// report, in which indexes, routes and gateways are often wrong or missing.
func plan(result *types100.Result, observed []*observedLink, queues int) ([]*plannedNIC, error) {
	if len(podIPs(result)) == 0 {
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
	chosen := chooseRoutes(result, ordered)
	for i, o := range ordered {
		nic, err := planNIC(result, o, queues)
		if err != nil {
			return nil, err
		}
		nic.setRoutes(append(chosen[i], o.peerRoutes()...))
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
		if !isGiven(addr) {
			continue
		}
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
	for _, o := range observed {
		if o.isForPod() {
			add(o)
		}
	}
	return ordered, nil
}

// isForPod reports whether a link is there for the pod, also if the result does not name it, as Multus names those of the first of its
// networks only: somebody has given it an address, or has moved a card to the pod, for which it need not have one.
func (o *observedLink) isForPod() bool {
	attrs := o.link.Attrs()
	return len(o.lasting()) > 0 || attrs.ParentDevBus == "pci" && attrs.MasterIndex == 0
}

// isGiven tells addresses of the pod from those that any host gives itself: of the loopback, and IPv6's of the link.
func isGiven(a netip.Addr) bool { return !a.IsLoopback() && !(a.Is6() && a.IsLinkLocalUnicast()) }

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
	for _, p := range addressesInOrder(result, o) {
		nic.Addresses = append(nic.Addresses, reachable(p, o))
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
	case bytes.Equal(attrs.HardwareAddr, make([]byte, 6)):
		return refuse("but has no MAC address (a netkit in the mode l3)")
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

// addressesInOrder returns a link's addresses as the result lists them. Those that it does not list come last, without any that the
// kernel has made of router advertisements: the guest makes its own.
func addressesInOrder(result *types100.Result, o *observedLink) []netip.Prefix {
	position := func(p netip.Prefix) int {
		return slices.IndexFunc(result.IPs, func(ip *types100.IPConfig) bool { return toAddr(ip.Address.IP) == p.Addr() })
	}
	var listed, others []netip.Prefix
	for _, p := range o.addresses {
		if position(p) >= 0 {
			listed = append(listed, p)
		}
	}
	for _, p := range o.lasting() {
		if position(p) < 0 {
			others = append(others, p)
		}
	}
	slices.SortStableFunc(listed, func(a, b netip.Prefix) int { return position(a) - position(b) })
	return append(listed, others...)
}

// reachable narrows an address to itself if its subnet is not on the link, as with plugins that route every neighbour.
func reachable(p netip.Prefix, o *observedLink) netip.Prefix {
	if slices.Contains(o.connected, p.Masked()) {
		return p
	}
	return netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
}

// podIPs returns the result's addresses in order and each once, but the first IPv4 address before all others.
func podIPs(result *types100.Result) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range result.IPs {
		if addr := toAddr(ip.Address.IP); !slices.Contains(ips, addr) && isGiven(addr) {
			ips = append(ips, addr)
		}
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
