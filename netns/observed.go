package netns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// observedLink is a link as the plugins left it in the pod's namespace.
type observedLink struct {
	link      netlink.Link
	addresses []netip.Prefix // of global scope
	passing   []netip.Addr   // those of them that end by themselves, as the kernel makes of router advertisements
	peers     []netip.Prefix // for each of them the address at the other end, with the prefix that is reached by it; mostly none
	connected []netip.Prefix // what the kernel itself routes to the link because of them
	routes    []kernelRoute  // what the plugins route through it
}

// kernelRoute is a route with what the kernel chooses by among routes to one destination: the least metric.
type kernelRoute struct {
	Route
	Metric int `json:"metric,omitempty"`
}

func (o *observedLink) name() string { return o.link.Attrs().Name }
func (o *observedLink) index() int   { return o.link.Attrs().Index }

// has returns the prefix of an address of the link.
func (o *observedLink) has(a netip.Addr) bool {
	return slices.ContainsFunc(o.addresses, func(p netip.Prefix) bool { return p.Addr() == a })
}

// peerRoutes lead to what is reached by the addresses at other ends.
func (o *observedLink) peerRoutes() []Route {
	var routes []Route
	for _, peer := range o.peers {
		if peer.IsValid() {
			routes = append(routes, Route{Dst: peer.Masked()})
		}
	}
	return routes
}

// lasting are the addresses that somebody has given to the link.
func (o *observedLink) lasting() []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(o.addresses), func(p netip.Prefix) bool { return slices.Contains(o.passing, p.Addr()) })
}

// observe reads all links but the loopback, with their addresses and routes.
func (l *links) observe() ([]*observedLink, error) {
	list, err := l.LinkList()
	if err != nil {
		return nil, fmt.Errorf("netns: list links: %w", err)
	}
	var all []*observedLink
	byIndex := make(map[int]*observedLink)
	for _, link := range list {
		if link.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		o := &observedLink{link: link}
		all = append(all, o)
		byIndex[o.index()] = o
	}
	if err := l.observeAddresses(byIndex); err != nil {
		return nil, err
	}
	return all, l.observeRoutes(byIndex)
}

func (l *links) observeAddresses(byIndex map[int]*observedLink) error {
	addrs, err := l.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("netns: list addresses: %w", err)
	}
	for _, a := range addrs {
		o := byIndex[a.LinkIndex]
		p, ok := toPrefix(a.IPNet)
		if !ok || o == nil || a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		o.addresses = append(o.addresses, p)
		peer, _ := toPrefix(a.Peer)
		o.peers = append(o.peers, peer)
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			o.passing = append(o.passing, p.Addr())
		}
	}
	return nil
}

func (l *links) observeRoutes(byIndex map[int]*observedLink) error {
	routes, err := l.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("netns: list routes: %w", err)
	}
	for _, r := range routes {
		index, gateway := nextHop(r)
		o, dst := byIndex[index], destination(r)
		if o == nil || r.Type != unix.RTN_UNICAST || !dst.IsValid() || dst.Addr().IsLinkLocalUnicast() && dst.Addr().Is6() {
			continue
		}
		switch r.Protocol {
		case unix.RTPROT_KERNEL:
			o.connected = append(o.connected, dst)
		case unix.RTPROT_RA: // the guest hears router advertisements itself
		default:
			o.routes = append(o.routes, kernelRoute{Route{Dst: dst, Gateway: gateway}, r.Priority})
		}
	}
	return nil
}

// nextHop returns link and gateway of a route; of a route over several paths, those of the first.
func nextHop(r netlink.Route) (int, netip.Addr) {
	if len(r.MultiPath) > 0 {
		return r.MultiPath[0].LinkIndex, toAddr(r.MultiPath[0].Gw)
	}
	return r.LinkIndex, toAddr(r.Gw)
}

func destination(r netlink.Route) netip.Prefix {
	if p, ok := toPrefix(r.Dst); ok {
		return p.Masked()
	}
	switch {
	case r.Dst != nil:
		return netip.Prefix{}
	case r.Family == netlink.FAMILY_V6:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	default:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
}
