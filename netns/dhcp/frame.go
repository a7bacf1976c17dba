package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	serverPort = 67
	clientPort = 68

	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	protocolUDP   = 17

	etherLen = 14
	ipLen    = 20
	udpLen   = 8
	arpLen   = 28
)

// requestPayload returns the DHCP message in an Ethernet frame to UDP port 67, or nil when the frame is anything else or
// is cut off. Checksums are not looked at: those of a guest that leaves them to its NIC are not filled in yet.
func requestPayload(frame []byte) []byte {
	if len(frame) < etherLen+ipLen || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv4 {
		return nil
	}
	ip := frame[etherLen:]
	header, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	fragment := binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 // any offset, or more to follow
	if ip[0]>>4 != 4 || header < ipLen || total > len(ip) || total < header+udpLen || ip[9] != protocolUDP || fragment {
		return nil
	}
	udp := ip[header:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp[2:]) != serverPort || length < udpLen || length > len(udp) {
		return nil
	}
	return udp[udpLen:length]
}

// replyFrame wraps a DHCP message for the way from the server to the client.
func replyFrame(dstMAC net.HardwareAddr, dst netip.Addr, payload []byte) []byte {
	frame := make([]byte, etherLen+ipLen+udpLen+len(payload))
	ethernet(frame, dstMAC, etherTypeIPv4)

	ip := frame[etherLen:]
	src4, dst4 := ServerIP().As4(), dst.As4()
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, protocolUDP
	copy(ip[12:], src4[:])
	copy(ip[16:], dst4[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(0, ip[:ipLen]))

	udp := ip[ipLen:]
	binary.BigEndian.PutUint16(udp[0:], serverPort)
	binary.BigEndian.PutUint16(udp[2:], clientPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpLen:], payload)
	pseudo := sum(uint32(protocolUDP)+uint32(len(udp)), ip[12:20])
	sum := checksum(pseudo, udp)
	if sum == 0 {
		sum = 0xffff // zero would mean that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return frame
}

// arpReply answers an ARP request for the server's address. Other frames give nil.
func arpReply(frame []byte) []byte {
	if len(frame) < etherLen+arpLen || binary.BigEndian.Uint16(frame[12:]) != etherTypeARP {
		return nil
	}
	arp, server := frame[etherLen:], ServerIP().As4()
	isRequest := binary.BigEndian.Uint64(arp)>>16 == 0x000108000604 && binary.BigEndian.Uint16(arp[6:]) == 1
	if !isRequest || [4]byte(arp[24:28]) != server {
		return nil
	}
	reply := make([]byte, etherLen+arpLen)
	ethernet(reply, frame[6:12], etherTypeARP)
	out := reply[etherLen:]
	copy(out, arp[:6])
	out[7] = 2
	copy(out[8:], ServerMAC())
	copy(out[14:], server[:])
	copy(out[18:], arp[8:18]) // to the one who asked
	return reply
}

func ethernet(frame []byte, dst net.HardwareAddr, etherType uint16) {
	copy(frame, dst)
	copy(frame[6:], ServerMAC())
	binary.BigEndian.PutUint16(frame[12:], etherType)
}

// checksum is the Internet checksum (RFC 1071) of b on top of a partial sum.
func checksum(partial uint32, b []byte) uint16 {
	s := sum(partial, b)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

func sum(s uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}
