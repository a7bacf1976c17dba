package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	server6Port = 547
	client6Port = 546

	etherTypeIPv6  = 0x86dd
	protocolICMPv6 = 58
	ip6Len         = 40
	hopLimit       = 255 // of neighbour discovery: what has passed a router is not believed (RFC 4861, section 3.1)

	routerSolicit   = 133
	routerAdvertise = 134
	neighbourAsk    = 135
	neighbourTell   = 136
)

// Server6IP is the address that DHCPv6 answers come from, made of [ServerMAC] as interfaces make theirs. It exists on the
// tap only.
func Server6IP() netip.Addr { return linkLocal(ServerMAC()) }

// linkLocal is the address that an interface gives itself by its hardware address (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 0x02, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

func allNodes() netip.Addr { return netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1}) }

// solicitedNode is the group in which the owner of an address listens for questions about it (RFC 4291, section 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 0xff, b[13], b[14], b[15]})
}

// groupMAC is where frames to a group go (RFC 2464, section 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// packet6 is what matters of an IPv6 packet. Its payload begins behind the header of UDP, or is the whole ICMPv6 message.
type packet6 struct {
	src, dst netip.Addr
	payload  []byte
}

// parse6 takes an IPv6 frame apart. Packets with extension headers give nil, as do those that are cut off. Checksums are
// not looked at: those of a guest that leaves them to its NIC are not filled in yet.
func parse6(frame []byte) (protocol byte, hops byte, p *packet6) {
	if len(frame) < etherLen+ip6Len || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv6 {
		return 0, 0, nil
	}
	ip := frame[etherLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || length > len(ip)-ip6Len {
		return 0, 0, nil
	}
	p = &packet6{
		src: netip.AddrFrom16([16]byte(ip[8:24])), dst: netip.AddrFrom16([16]byte(ip[24:40])),
		payload: ip[ip6Len : ip6Len+length],
	}
	return ip[6], ip[7], p
}

// request6 returns the DHCPv6 message in a frame to UDP port 547 from a link-local address, nil for anything else.
func request6(frame []byte) *packet6 {
	protocol, _, p := parse6(frame)
	if p == nil || protocol != protocolUDP || len(p.payload) < udpLen || !p.src.IsLinkLocalUnicast() {
		return nil
	}
	length := int(binary.BigEndian.Uint16(p.payload[4:]))
	if binary.BigEndian.Uint16(p.payload[2:]) != server6Port || length < udpLen || length > len(p.payload) {
		return nil
	}
	p.payload = p.payload[udpLen:length]
	return p
}

// icmp6 returns a message of neighbour discovery of a type and with a minimum length, nil for anything else.
func icmp6(frame []byte, kind byte, length int) *packet6 {
	protocol, hops, p := parse6(frame)
	if p == nil || protocol != protocolICMPv6 || hops != hopLimit || len(p.payload) < length || p.payload[0] != kind || p.payload[1] != 0 {
		return nil
	}
	return p
}

// frame6 makes a frame around the payload of an IPv6 packet and fills in the checksum at an offset of the payload.
func frame6(srcMAC, dstMAC net.HardwareAddr, src, dst netip.Addr, protocol byte, payload []byte, checksumAt int) []byte {
	frame := make([]byte, etherLen+ip6Len, etherLen+ip6Len+len(payload))
	copy(frame, dstMAC)
	copy(frame[6:], srcMAC)
	binary.BigEndian.PutUint16(frame[12:], etherTypeIPv6)
	ip := frame[etherLen:]
	ip[0], ip[6], ip[7] = 0x60, protocol, hopLimit
	binary.BigEndian.PutUint16(ip[4:], uint16(len(payload)))
	src16, dst16 := src.As16(), dst.As16()
	copy(ip[8:], src16[:])
	copy(ip[24:], dst16[:])

	frame = append(frame, payload...)
	body := frame[etherLen+ip6Len:]
	binary.BigEndian.PutUint16(body[checksumAt:], 0)
	sum := checksum(sum(uint32(protocol)+uint32(len(body)), ip[8:40]), body)
	if sum == 0 {
		sum = 0xffff // zero would mean that there is none
	}
	binary.BigEndian.PutUint16(body[checksumAt:], sum)
	return frame
}

// reply6Frame wraps a DHCPv6 message for the way from the server to the client.
func reply6Frame(mac net.HardwareAddr, to netip.Addr, message []byte) []byte {
	udp := make([]byte, udpLen, udpLen+len(message))
	binary.BigEndian.PutUint16(udp[0:], server6Port)
	binary.BigEndian.PutUint16(udp[2:], client6Port)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpLen+len(message)))
	return frame6(ServerMAC(), mac, Server6IP(), to, protocolUDP, append(udp, message...), 6)
}
