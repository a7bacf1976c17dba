package dhcp

import (
	"net"
	"net/netip"
	"time"
)

// Times of a lease. The address never changes while the pod lives; the lease ends so that a client asks again at times.
const (
	LeaseTime     = 24 * time.Hour
	RenewalTime   = LeaseTime / 2     // T1
	RebindingTime = LeaseTime * 3 / 4 // T2
)

// ServerIP is the server identifier. It is link-local and exists on the tap only.
func ServerIP() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 254, 2}) }

// ServerMAC is the hardware address the server's frames come from: locally administered, made of [ServerIP].
func ServerMAC() net.HardwareAddr { return net.HardwareAddr{0x02, 0x00, 169, 254, 254, 2} }

// Lease is what the client is told. It is not changed while a server uses it.
type Lease struct {
	MAC      net.HardwareAddr // the only client that is answered
	Address  netip.Prefix     // IPv4 address and subnet mask (option 1); if it is not valid, DHCPv4 is not answered
	Routes   []Route          // options 3 and 121; next hops that are not on the link get a host route of their own
	DNS      []netip.Addr     // option 6, and DHCPv6's 23; each has those of its family
	Searches []string         // option 119, and DHCPv6's 24; the first is also the domain (option 15)
	Hostname string           // option 12
	MTU      int              // option 26 in bytes; 0: not sent
	// Addresses6 are IPv6 addresses with the prefixes whose addresses are neighbours. Without any, neither DHCPv6 is
	// answered nor a router advertised.
	Addresses6 []netip.Prefix
}

// Route leads to Dst. A zero Gateway means that Dst is on the link. By DHCPv4 the IPv4 routes are told, by router
// advertisements the IPv6 routes, as far as they have the default route's gateway or none.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr
}
