package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	// routerLifetime is the longest that hosts believe (RFC 4861, section 6.2.1).
	routerLifetime = 9000 * time.Second
	// routerPeriod passes between advertisements that nobody asked for: some may be lost before a lifetime is over.
	routerPeriod = routerLifetime / 4
)

// Options of router advertisements and their lengths in units of eight bytes (RFC 4861, 4191, 8106).
const (
	ndPrefix, ndPrefixUnits = 3, 4
	ndMTU, ndMTUUnits       = 5, 1
	ndRoute, ndRouteUnits   = 24, 3
	ndDNS                   = 25
	ndSearch                = 31

	flagManaged, flagOther = 0x80, 0x40
	flagOnLink             = 0x80
)

// advertisement is the ICMPv6 message that tells a host where its neighbours are, by which router it reaches all others,
// and that DHCPv6 has an address for it. It comes from the router's address, which is how a host learns it; without a
// router it comes from the server's.
func (l *Lease) advertisement(router netip.Addr) []byte {
	m := make([]byte, 16)
	m[0], m[4], m[5] = routerAdvertise, 64, flagManaged|flagOther
	if router.IsValid() && l.hasDefault6() {
		binary.BigEndian.PutUint16(m[6:], seconds(routerLifetime))
	}
	if l.MTU >= minMTU6 {
		m = append(m, ndMTU, ndMTUUnits, 0, 0)
		m = binary.BigEndian.AppendUint32(m, uint32(l.MTU))
	}
	dns := l.appendDNS(nil)
	end := maxAdvertisement - len(dns)
	for _, p := range l.onLink6() {
		if len(m)+8*ndPrefixUnits <= end {
			m = appendPrefix(m, p)
		}
	}
	if router.IsValid() {
		m = l.appendRoutes(m, end)
	}
	return append(m, dns...)
}

// maxAdvertisement is what every link carries in one packet. Prefixes and routes beyond that are left out.
const maxAdvertisement = minMTU6 - ip6Len

// minMTU6 is the smallest that IPv6 works with.
const minMTU6 = 1280

func seconds(d time.Duration) uint16 { return uint16(d / time.Second) }

// onLink6 are the prefixes whose addresses are neighbours.
func (l *Lease) onLink6() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range l.Addresses6 {
		if !p.IsSingleIP() {
			all = append(all, p.Masked())
		}
	}
	for _, r := range l.Routes {
		if r.Dst.Addr().Is6() && !r.Gateway.IsValid() && r.Dst.Bits() > 0 {
			all = append(all, r.Dst.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(all)
}

func appendPrefix(m []byte, p netip.Prefix) []byte {
	addr := p.Addr().As16()
	m = append(m, ndPrefix, ndPrefixUnits, byte(p.Bits()), flagOnLink)
	m = binary.BigEndian.AppendUint32(m, 0xffffffff) // valid for ever
	m = append(m, 0, 0, 0, 0, 0, 0, 0, 0)            // not to make addresses of: they are given
	return append(m, addr[:]...)
}

// gateway6 is the next hop that is advertised: that of the default route, or else of the first route with one.
func (l *Lease) gateway6() (gateway netip.Addr) {
	for _, r := range l.Routes {
		if !r.Dst.Addr().Is6() || !r.Gateway.IsValid() {
			continue
		}
		if r.Dst.Bits() == 0 {
			return r.Gateway
		}
		if !gateway.IsValid() {
			gateway = r.Gateway
		}
	}
	return gateway
}

func (l *Lease) hasDefault6() bool {
	return slices.ContainsFunc(l.Routes, func(r Route) bool { return r.Dst.Addr().Is6() && r.Dst.Bits() == 0 && r.Gateway.IsValid() })
}

// appendRoutes adds the other routes by the same router, up to a length. Those by another one cannot be told.
func (l *Lease) appendRoutes(m []byte, end int) []byte {
	gateway := l.gateway6()
	for _, r := range l.Routes {
		if r.Dst.Addr().Is6() && r.Dst.Bits() > 0 && r.Gateway == gateway && len(m)+8*ndRouteUnits <= end {
			addr := r.Dst.Masked().Addr().As16()
			m = append(m, ndRoute, ndRouteUnits, byte(r.Dst.Bits()), 0)
			m = binary.BigEndian.AppendUint32(m, uint32(seconds(routerLifetime)))
			m = append(m, addr[:]...)
		}
	}
	return m
}

func (l *Lease) appendDNS(m []byte) []byte {
	if servers := v6Only(l.DNS); len(servers) > 0 {
		m = append(m, ndDNS, byte(1+2*len(servers)), 0, 0)
		m = binary.BigEndian.AppendUint32(m, uint32(seconds(routerLifetime)))
		for _, s := range servers {
			m = append(m, s...)
		}
	}
	names := searchList(l.domains())
	if len(names) == 0 || len(names) > maxSearchOption {
		return m
	}
	units := (8 + len(names) + 7) / 8
	m = append(m, ndSearch, byte(units), 0, 0)
	m = binary.BigEndian.AppendUint32(m, uint32(seconds(routerLifetime)))
	m = append(m, names...)
	return append(m, make([]byte, units*8-8-len(names))...)
}

// maxSearchOption keeps an advertisement in one packet of any link.
const maxSearchOption = 800

func v6Only(addrs []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		if a.Is6() && !a.Is4In6() && len(out) < maxServers {
			out = append(out, a.AsSlice())
		}
	}
	return out
}

// advertisementFrame is an advertisement on its way to one host, or to all.
func (l *Lease) advertisementFrame(router, to netip.Addr) []byte {
	from, mac := router, l.MAC
	if !from.IsValid() {
		from = Server6IP()
	}
	if to.IsMulticast() {
		mac = groupMAC(to)
	}
	return frame6(ServerMAC(), mac, from, to, protocolICMPv6, l.advertisement(router), 2)
}
