package dhcp

import (
	"net"
	"net/netip"
	"time"
)

// askTimeout is how long a neighbour may take to say where it is. It answers in its kernel.
const askTimeout = 250 * time.Millisecond

// findRouter returns the link-local address of the node that has the address gateway, by which hosts know their routers.
// It asks on conn, which is on the pod's network, in the name of the guest: who has gateway, and whether that node also
// has the link-local address that follows from its hardware address. Its answers reach the guest too, which knows of no
// question and ignores them.
func findRouter(conn Conn, guest net.HardwareAddr, as, gateway netip.Addr) (netip.Addr, bool) {
	if gateway.IsLinkLocalUnicast() {
		return gateway, true
	}
	if conn == nil || !gateway.IsValid() {
		return netip.Addr{}, false
	}
	mac, ok := ask(conn, guest, as, gateway)
	if !ok {
		return netip.Addr{}, false
	}
	router := linkLocal(mac)
	_, ok = ask(conn, guest, as, router)
	return router, ok
}

// ask sends a neighbour solicitation and waits for the answer. The source is never the unspecified address: that would be
// a claim to the address, and a node that is just about to take it would give it up.
func ask(conn Conn, guest net.HardwareAddr, as, target netip.Addr) (net.HardwareAddr, bool) {
	deadline := time.Now().Add(askTimeout)
	if conn.SetReadDeadline(deadline) != nil || conn.WriteFrame(solicitation(guest, as, target)) != nil {
		return nil, false
	}
	buf := make([]byte, maxFrame)
	for time.Now().Before(deadline) {
		n, err := conn.ReadFrame(buf)
		if err != nil {
			return nil, false
		}
		if mac := told(buf[:n], target); mac != nil {
			return mac, true
		}
	}
	return nil, false
}

func solicitation(mac net.HardwareAddr, as, target netip.Addr) []byte {
	addr := target.As16()
	m := append([]byte{neighbourAsk, 0, 0, 0, 0, 0, 0, 0}, addr[:]...)
	m = append(append(m, 1, 1), mac...) // source link-layer address
	group := solicitedNode(target)
	return frame6(mac, groupMAC(group), as, group, protocolICMPv6, m, 2)
}

// told returns the hardware address in a neighbour advertisement about target, nil for other frames.
func told(frame []byte, target netip.Addr) net.HardwareAddr {
	p := icmp6(frame, neighbourTell, 24)
	if p == nil || netip.AddrFrom16([16]byte(p.payload[8:24])) != target {
		return nil
	}
	for options := p.payload[24:]; len(options) >= 8; {
		size := int(options[1]) * 8
		if size == 0 || size > len(options) {
			return nil
		}
		if options[0] == 2 && size == 8 { // target link-layer address
			return net.HardwareAddr(append([]byte(nil), options[2:8]...))
		}
		options = options[size:]
	}
	return nil
}
