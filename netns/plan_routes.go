package netns

import (
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
)

// chooseRoutes returns which routes go through each link: those that the kernel has; where there are none, those that the result
// reports. Of several to one destination it is the one that the kernel prefers: a guest can be told of a route by DHCP, and not
// of its metric, and would take any.
func chooseRoutes(result *types100.Result, ordered []*observedLink) [][]Route {
	type choice struct {
		link, metric int
		gateway      netip.Addr
	}
	best := make(map[netip.Prefix]choice)
	for i, o := range ordered {
		for _, r := range routesThrough(result, ordered, o) {
			if now, there := best[r.Dst]; !there || r.Metric < now.metric {
				best[r.Dst] = choice{i, r.Metric, r.Gateway}
			}
		}
	}
	chosen := make([][]Route, len(ordered))
	for dst, c := range best {
		chosen[c.link] = append(chosen[c.link], Route{Dst: dst, Gateway: c.gateway})
	}
	return chosen
}

func routesThrough(result *types100.Result, ordered []*observedLink, o *observedLink) []kernelRoute {
	if len(o.routes) > 0 {
		return o.routes
	}
	return reportedRoutes(result, ordered, o)
}

// setRoutes completes the routes by those to their next hops, and puts them in order.
func (i *Interface) setRoutes(routes []Route) {
	for _, r := range slices.Clone(routes) {
		if r.Gateway.IsValid() && !onLink(r.Gateway, i.Addresses, routes) {
			routes = append(routes, Route{Dst: netip.PrefixFrom(r.Gateway, r.Gateway.BitLen())})
		}
	}
	slices.SortFunc(routes, compareRoutes)
	i.Routes = slices.Compact(routes)
	for _, r := range i.Routes {
		if r.IsDefault() && r.Gateway.IsValid() {
			i.Gateways = append(i.Gateways, r.Gateway)
		}
	}
}

// reportedRoutes are the routes of a result that go through a link, without those of tables that another rule than the destination
// leads to.
func reportedRoutes(result *types100.Result, ordered []*observedLink, o *observedLink) []kernelRoute {
	var routes []kernelRoute
	for _, r := range result.Routes {
		dst, ok := toPrefix(&r.Dst)
		if !ok || r.Table != nil && *r.Table != unix.RT_TABLE_MAIN && *r.Table != unix.RT_TABLE_UNSPEC {
			continue
		}
		gateway := toAddr(r.GW)
		onTheLink := r.Scope != nil && *r.Scope == unix.RT_SCOPE_LINK && !gateway.IsValid()
		if !gateway.IsValid() && !onTheLink {
			gateway = reportedGateway(result, o, dst.Addr().Is4())
		}
		if onTheLink && isFirstOfFamily(ordered, o, dst.Addr().Is4()) || gateway.IsValid() && leadsThrough(gateway, o) {
			routes = append(routes, kernelRoute{Route{Dst: dst.Masked(), Gateway: gateway}, r.Priority})
		}
	}
	return routes
}

// reportedGateway is the first one that the result names for an address of the link.
func reportedGateway(result *types100.Result, o *observedLink, is4 bool) netip.Addr {
	for _, ip := range result.IPs {
		if gateway := toAddr(ip.Gateway); o.has(toAddr(ip.Address.IP)) && gateway.IsValid() && gateway.Is4() == is4 {
			return gateway
		}
	}
	return netip.Addr{}
}

func isFirstOfFamily(ordered []*observedLink, o *observedLink, is4 bool) bool {
	i := slices.IndexFunc(ordered, func(l *observedLink) bool {
		return slices.ContainsFunc(l.addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 })
	})
	return i >= 0 && ordered[i] == o
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
