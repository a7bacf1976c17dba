// Package dhcp answers the DHCPv4 requests of one virtual machine's NIC on the tap behind it.
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
// Documents: RFC 2131 (protocol), RFC 2132 (options), RFC 3397 (search list), RFC 3442 (classless routes),
// RFC 6842 (client identifier in answers), RFC 4578 (option 97).
package dhcp
