package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// configure adds the options that describe the network, in no more bytes than the client takes.
func (l *Lease) configure(reply, req *dhcpv4.DHCPv4) {
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(l.Address.Bits(), 32)))
	if l.MTU > 0 {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(min(l.MTU, 65535)))))
	}
	if servers := v4Only(l.DNS); len(servers) > 0 {
		reply.UpdateOption(dhcpv4.OptDNS(servers...))
	}
	if l.Hostname != "" {
		reply.UpdateOption(dhcpv4.OptHostName(l.Hostname))
	}
	names := l.domains()
	if len(names) > 0 {
		reply.UpdateOption(dhcpv4.OptDomainName(names[0]))
	}
	limit := sizeLimit(req, l.MTU)
	l.addRoutes(reply, req, limit)
	addSearches(reply, names, limit)
}

// addRoutes sends a lone default route as router (option 3), anything else as classless routes (option 121), which then
// include the default. A client that asks for routers but not for classless routes gets the router as well; one that
// understands option 121 must ignore it (RFC 3442).
func (l *Lease) addRoutes(reply, req *dhcpv4.DHCPv4, limit int) {
	routes := l.classless()
	router, plain := l.plainRouter(routes)
	wanted := req.ParameterRequestList()
	lacks121 := len(wanted) > 0 && !wanted.Has(dhcpv4.OptionClasslessStaticRoute)
	if router.IsValid() && (plain || lacks121) {
		reply.UpdateOption(dhcpv4.OptRouter(router.AsSlice()))
	}
	if plain {
		return
	}
	for room := limit - len(reply.ToBytes()); len(routes) > 0 && wireSize(routes) > room; {
		routes = fewer(routes)
	}
	if len(routes) > 0 {
		reply.UpdateOption(dhcpv4.OptClasslessStaticRoute(wireRoutes(routes)...))
	}
}

// wireSize is how many bytes the routes take, in as many options as that needs (RFC 3396).
func wireSize(routes []Route) int {
	size := 0
	for _, r := range routes {
		size += 1 + (r.Dst.Bits()+7)/8 + 4
	}
	return size + 2*((size+254)/255)
}

// fewer leaves out the route that is missed least: one through the router that all else goes through as well, or else the narrowest
// one with a router, or else the last one.
func fewer(routes []Route) []Route {
	last := len(routes) - 1
	i := slices.IndexFunc(routes, func(r Route) bool {
		return r.Gateway.IsValid() && r.Dst.Bits() > 0 && r.Gateway == routes[last].Gateway
	})
	if routes[last].Dst.Bits() > 0 || i < 0 {
		i = slices.IndexFunc(routes, func(r Route) bool { return r.Gateway.IsValid() && r.Dst.Bits() > 0 })
	}
	if i < 0 {
		i = last
	}
	return slices.Delete(routes, i, i+1)
}

// plainRouter returns the default route's next hop, and whether it says everything there is to say about routes.
func (l *Lease) plainRouter(routes []Route) (router netip.Addr, plain bool) {
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Gateway.IsValid() {
			router = r.Gateway
			break
		}
	}
	return router, len(routes) == 1 && router.IsValid()
}

// classless returns the lease's IPv4 routes, completed and in an order in which each next hop is reachable when its
// route is installed: on-link routes, then narrower before wider ones.
func (l *Lease) classless() []Route {
	var routes []Route
	hasDefault := false
	for _, r := range l.Routes {
		if !r.Dst.Addr().Is4() {
			continue
		}
		hasDefault = hasDefault || r.Dst.Bits() == 0
		routes = append(routes, Route{Dst: r.Dst.Masked(), Gateway: r.Gateway})
		if is4(r.Gateway) && !l.onLink(r.Gateway) {
			routes = append(routes, Route{Dst: netip.PrefixFrom(r.Gateway, 32)})
		}
	}
	if !hasDefault { // the server has to be reachable for renewals
		routes = append(routes, Route{Dst: netip.PrefixFrom(ServerIP(), 32)})
	}
	slices.SortStableFunc(routes, compareRoutes)
	return slices.Compact(routes)
}

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

// onLink reports whether a next hop is reachable by the address's subnet or by an on-link route.
func (l *Lease) onLink(gateway netip.Addr) bool {
	if l.Address.Bits() < 32 && l.Address.Contains(gateway) {
		return true
	}
	return slices.ContainsFunc(l.Routes, func(r Route) bool {
		return !r.Gateway.IsValid() && r.Dst.Bits() > 0 && r.Dst.Contains(gateway)
	})
}

func wireRoutes(routes []Route) []*dhcpv4.Route {
	out := make([]*dhcpv4.Route, 0, len(routes))
	for _, r := range routes {
		gateway := net.IPv4zero.To4() // on the link
		if r.Gateway.IsValid() {
			gateway = r.Gateway.AsSlice()
		}
		dst := &net.IPNet{IP: r.Dst.Addr().AsSlice(), Mask: net.CIDRMask(r.Dst.Bits(), 32)}
		out = append(out, &dhcpv4.Route{Dest: dst, Router: gateway})
	}
	return out
}

func v4Only(addrs []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		if is4(a) && len(out) < maxServers {
			out = append(out, a.AsSlice())
		}
	}
	return out
}

// addSearches adds as much of the search list, from its beginning, as fits.
func addSearches(reply *dhcpv4.DHCPv4, names []string, limit int) {
	for n := len(names); n > 0; n-- {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionDNSDomainSearchList, searchList(names[:n])))
		if len(reply.ToBytes()) <= limit {
			return
		}
	}
	reply.Options.Del(dhcpv4.OptionDNSDomainSearchList)
}

const (
	headers     = 20 + 8 // IP and UDP
	minPacket   = 576    // every client takes this much (RFC 2131, section 2)
	maxLabel    = 63
	maxName     = 253
	maxSearches = 32
	maxServers  = 8 // more than any resolver uses
)

// sizeLimit is the largest DHCP message in bytes that the client takes (option 57) and the link carries.
func sizeLimit(req *dhcpv4.DHCPv4, mtu int) int {
	limit := minPacket
	if size, err := req.MaxMessageSize(); err == nil {
		limit = max(limit, int(size))
	}
	if mtu <= 0 {
		mtu = 1500
	}
	return min(limit, mtu, 1500) - headers
}

func isDomain(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
	}
	return true
}

// searchList encodes domain names without compression, each with its final zero byte (RFC 3397, RFC 1035 section 3.1).
func searchList(names []string) []byte {
	var out []byte
	for _, name := range names {
		for label := range strings.SplitSeq(name, ".") {
			out = append(out, byte(len(label)))
			out = append(out, label...)
		}
		out = append(out, 0)
	}
	return out
}
