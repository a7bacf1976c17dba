// Package dhcp gives one virtual machine's NIC its addresses, on the tap behind it: by DHCPv4, and by DHCPv6 and router
// advertisements.
//
// There is one address to give and one client to give it to, both known beforehand, so the server keeps no state: what a
// client is told follows from its request and the [Lease] alone. A restarted server goes on where the old one stopped.
//
// The server reads and writes raw Ethernet frames on the tap ([Listen]). It sees what the guest sends before a bridge
// does, and what it sends reaches nobody but the guest. [GuestFilter] and [NetworkFilter] are the matching
// traffic-control programs that keep DHCP from crossing the bridge in either direction.
//
// Every request is seen, to whatever address it is sent. A client that renews its lease sends to the server's address
// [ServerIP], by way of its router or, without one, directly; the server answers ARP requests for that address, on the
// tap only.
//
// IPv6 hosts learn their routers from advertisements, whose sender is the router, by a link-local address. CNI plugins name
// routers by other addresses too; then the server asks the pod's network for the router's link-local address, and
// advertises no router until it is known.
//
// Documents for IPv6: RFC 8415 (DHCPv6), RFC 4861 (neighbour discovery), RFC 4191 (routes), RFC 8106 (DNS).
//
// Documents: RFC 2131 (protocol), RFC 2132 (options), RFC 3397 (search list), RFC 3442 (classless routes),
// RFC 6842 (client identifier in answers), RFC 4578 (option 97).
package dhcp
