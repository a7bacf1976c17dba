package dhcp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/bpf"
)

func TestAdvertisement(t *testing.T) {
	l := dualLease()
	l.Searches = []string{"a.example"}
	got := hex.EncodeToString(l.advertisement(netip.MustParseAddr("fe80::1")))
	want := "86000000" + "40c02328" + "0000000000000000" +
		"05010000000005aa" +
		"030440" + "80ffffffff0000000000000000" + "fd000001000000000000000000000000" +
		"030440" + "80ffffffff0000000000000000" + "fd00000b000000000000000000000000" +
		"18033000" + "00002328" + "fd000009000000000000000000000000" +
		"19030000" + "00002328" + "fd000000000000000000000000000053" +
		"1f030000" + "00002328" + "0161076578616d706c650000" + "00000000"
	if got != want {
		t.Errorf("advertisement %s\nwant          %s", got, want)
	}
	if m := l.advertisement(netip.Addr{}); binary.BigEndian.Uint16(m[6:]) != 0 || bytes.Contains(m, []byte{0x18, 3, 48}) {
		t.Errorf("without a router: %x", m)
	}
}

func TestAdvertisementFitsAnyLink(t *testing.T) {
	l := dualLease()
	l.Searches = []string{strings.Repeat("a", 60) + ".example", strings.Repeat("b", 60) + ".example"}
	for i := range 100 {
		l.Routes = append(l.Routes, parseRoutes(fmt.Sprintf("fd01:%x::/32 fd00:1::1", i), fmt.Sprintf("fd02:%x::/32", i))...)
	}
	frame := l.advertisementFrame(netip.MustParseAddr("fe80::1"), allNodes())
	if size := len(frame) - etherLen; size > minMTU6 || size < minMTU6-8*ndPrefixUnits || !bytes.Contains(frame, []byte("bbb\x07example\x00")) {
		t.Errorf("a packet of %d bytes: %x", size, frame)
	}
	if p := icmp6(frame, routerAdvertise, 16); p == nil || binary.BigEndian.Uint16(p.payload[6:]) == 0 {
		t.Error("no router is advertised")
	}
}

func TestGateway6(t *testing.T) {
	l := dualLease()
	if g := l.gateway6(); g.String() != "fd00:1::1" || !l.hasDefault6() {
		t.Errorf("gateway %s", g)
	}
	l.Routes = l.Routes[len(l.Routes)-2:]
	if g := l.gateway6(); g.String() != "fd00:1::2" || l.hasDefault6() {
		t.Errorf("gateway %s without a default route", g)
	}
}

func TestAddressesOfIPv6(t *testing.T) {
	if a := Server6IP().String(); a != "fe80::a9ff:fefe:fe02" {
		t.Errorf("server %s", a)
	}
	group := solicitedNode(netip.MustParseAddr("fd00::1234:5678"))
	if group.String() != "ff02::1:ff34:5678" || groupMAC(group).String() != "33:33:ff:34:56:78" {
		t.Errorf("group %s at %s", group, groupMAC(group))
	}
}

// solicit is a search for routers.
func solicit(from string) []byte {
	return frame6(testLease().MAC, groupMAC(netip.MustParseAddr("ff02::2")), netip.MustParseAddr(from), netip.MustParseAddr("ff02::2"),
		protocolICMPv6, []byte{routerSolicit, 0, 0, 0, 0, 0, 0, 0}, 2)
}

// request6Frame is a DHCPv6 request.
func request6Frame(m *dhcpv6.Message) []byte {
	to, payload := netip.MustParseAddr("ff02::1:2"), m.ToBytes()
	udp := binary.BigEndian.AppendUint16([]byte{2, 34, 2, 35}, uint16(8+len(payload)))
	return frame6(testLease().MAC, groupMAC(to), netip.MustParseAddr("fe80::5"), to, protocolUDP, append(append(udp, 0, 0), payload...), 6)
}

// advert is a neighbour's answer.
func advert(target netip.Addr, mac net.HardwareAddr) []byte {
	addr := target.As16()
	m := append(append([]byte{neighbourTell, 0, 0, 0, 0x60, 0, 0, 0}, addr[:]...), 2, 1)
	return frame6(mac, testLease().MAC, target, netip.MustParseAddr("fe80::5"), protocolICMPv6, append(m, mac...), 2)
}

// network is the other side: neighbours that answer.
type network struct {
	*pipe
	known map[netip.Addr]net.HardwareAddr
	next  []byte
	asked int
}

func (n *network) WriteFrame(frame []byte) error {
	n.asked++
	target := netip.AddrFrom16([16]byte(frame[etherLen+ip6Len+8:]))
	n.next = nil
	if mac := n.known[target]; mac != nil {
		n.next = advert(target, mac)
	}
	return nil
}

func (n *network) ReadFrame(buf []byte) (int, error) {
	if n.next == nil {
		return 0, os.ErrDeadlineExceeded
	}
	return copy(buf, n.next), nil
}

func TestFindRouter(t *testing.T) {
	gateway, as, mac := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::5"), net.HardwareAddr{2, 0, 0, 0, 0, 1}
	n := &network{pipe: newPipe(), known: map[netip.Addr]net.HardwareAddr{}}
	find := func(gateway netip.Addr) (netip.Addr, bool) { return findRouter(n, testLease().MAC, as, gateway) }
	if r, ok := find(gateway); ok {
		t.Errorf("nobody answers, but the router is %s", r)
	}
	n.known[gateway] = mac
	if r, ok := find(gateway); ok {
		t.Errorf("the router has another link-local address than %s", r)
	}
	n.known[linkLocal(mac)] = mac
	if r, ok := find(gateway); !ok || r != linkLocal(mac) {
		t.Errorf("router %s, %v", r, ok)
	}
	asked := n.asked
	if r, ok := find(netip.MustParseAddr("fe80::7")); !ok || r.String() != "fe80::7" || n.asked != asked {
		t.Errorf("router %s, %v", r, ok)
	}
	if _, ok := findRouter(nil, testLease().MAC, as, gateway); ok {
		t.Error("a router on no network")
	}
}

func TestServerOfBothFamilies(t *testing.T) {
	guest, n := newPipe(), &network{pipe: newPipe(), known: map[netip.Addr]net.HardwareAddr{}}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	n.known[netip.MustParseAddr("fd00:1::1")], n.known[linkLocal(mac)] = mac, mac
	s := Serve(Link{Guest: guest, Network: n}, *dualLease())
	defer func() { _ = s.Close() }()
	guest.errs <- os.ErrDeadlineExceeded // as at the first reading
	if p := icmp6(<-guest.out, routerAdvertise, 16); p == nil || p.src != linkLocal(mac) || p.dst != allNodes() {
		t.Errorf("nobody asked: %+v", p)
	}
	guest.in <- solicit("fe80::5")
	if p := icmp6(<-guest.out, routerAdvertise, 16); p == nil || p.src != linkLocal(mac) || p.dst.String() != "fe80::5" {
		t.Errorf("asked: %+v", p)
	}
	guest.in <- solicit("::")
	if p := icmp6(<-guest.out, routerAdvertise, 16); p == nil || p.dst != allNodes() {
		t.Errorf("asked by nobody: %+v", p)
	}
	guest.in <- request6Frame(message6(dhcpv6.MessageTypeSolicit, clientID, ia(1)))
	frame := <-guest.out
	protocol, _, p := parse6(frame)
	if protocol != protocolUDP || p.src != Server6IP() || p.dst.String() != "fe80::5" || binary.BigEndian.Uint16(p.payload[2:]) != client6Port {
		t.Errorf("answer %x", frame)
	}
	if m, err := dhcpv6.MessageFromBytes(p.payload[udpLen:]); err != nil || m.MessageType != dhcpv6.MessageTypeAdvertise {
		t.Errorf("answer %v, %v", m, err)
	}
	guest.in <- discoverFrame(t)
	if reply, err := dhcpv4.FromBytes((<-guest.out)[etherLen+ipLen+udpLen:]); err != nil || reply.MessageType() != dhcpv4.MessageTypeOffer {
		t.Errorf("answer %v, %v", reply, err)
	}
}

func TestRouterThatIsNotFoundIsLookedForAgain(t *testing.T) {
	s := &Server{link: Link{Guest: newPipe()}, lease: *dualLease(), retry: firstRetry}
	now := time.Now()
	for _, want := range []time.Duration{firstRetry, 2 * firstRetry, 4 * firstRetry} {
		if s.remind(now); s.due.Sub(now) != want {
			t.Errorf("again after %s, want %s", s.due.Sub(now), want)
		}
	}
	s.router = netip.MustParseAddr("fe80::1")
	if s.remind(now); s.due.Sub(now) != routerPeriod {
		t.Errorf("again after %s", s.due.Sub(now))
	}
}

func TestBadFrames6(t *testing.T) {
	good := request6Frame(message6(dhcpv6.MessageTypeSolicit, clientID, ia(1)))
	spoil := func(what string, at int, value byte) {
		bad := bytes.Clone(good)
		bad[at] = value
		if request6(bad) != nil {
			t.Errorf("%s is accepted", what)
		}
	}
	spoil("IP version", etherLen, 0x40)
	spoil("length", etherLen+4, 9)
	spoil("protocol", etherLen+6, 6)
	spoil("source that is not local", etherLen+8, 0x20)
	spoil("port", etherLen+ip6Len+3, 1)
	spoil("UDP length", etherLen+ip6Len+4, 9)
	spoil("short UDP length", etherLen+ip6Len+5, 3)
	for n := range len(good) {
		if request6(good[:n]) != nil {
			t.Errorf("%d bytes are accepted", n)
		}
	}
	far := solicit("fe80::5")
	far[etherLen+7] = 64
	if icmp6(far, routerSolicit, 8) != nil {
		t.Error("a solicitation from behind a router")
	}
	l := dualLease()
	stranger := bytes.Clone(good)
	stranger[11]++
	if l.answerFrame6(stranger, request6(stranger)) != nil {
		t.Error("a stranger gets an answer")
	}
	loop := advert(netip.MustParseAddr("fe80::1"), net.HardwareAddr{2, 0, 0, 0, 0, 1})
	loop[etherLen+ip6Len+25] = 0 // an option without a length
	if told(loop, netip.MustParseAddr("fe80::1")) != nil {
		t.Error("an option without a length")
	}
}

func TestFilters6(t *testing.T) {
	asks, searches := request6Frame(message6(dhcpv6.MessageTypeSolicit, clientID)), solicit("fe80::5")
	answer := reply6Frame([]byte{6, 6, 6, 6, 6, 6}, netip.MustParseAddr("fe80::5"), []byte("x"))
	copy(answer[6:], []byte{6, 6, 6, 6, 6, 7})
	router := dualLease().advertisementFrame(netip.MustParseAddr("fe80::1"), allNodes())
	told := advert(netip.MustParseAddr("fe80::1"), net.HardwareAddr{2, 0, 0, 0, 0, 1})
	dns := bytes.Clone(asks)
	dns[etherLen+ip6Len+2], dns[etherLen+ip6Len+3] = 0, 53
	hop, options := []byte{0, 0, 1, 4, 0, 0, 0, 0}, append([]byte{0, 2}, make([]byte, 22)...)
	first, later := []byte{0, 0, 0, 1, 1, 2, 3, 4}, []byte{0, 0, 0, 9, 1, 2, 3, 4}
	route, many := append([]byte{0, 1, 253, 0}, make([]byte, 12)...), dns
	for range maxExtensions + 1 {
		many = behind(many, hopByHop, hop)
	}
	for _, tt := range []struct {
		name                               string
		frame                              []byte
		capture, guest, inward, neighbours bool
	}{
		{"request", asks, true, true, true, false},
		{"answer", answer, false, true, true, false},
		{"search for routers", searches, true, false, false, false},
		{"advertisement of a router", router, false, true, false, false},
		{"neighbour", told, false, false, false, true},
		{"DNS", dns, false, false, false, false},
		{"short", asks[:20], false, false, false, false},
		{"request behind an option", behind(asks, hopByHop, hop), false, true, true, false},
		{"request behind many options", behind(asks, destOptions, options), false, true, true, false},
		{"request in fragments", behind(asks, fragmentation, first), false, true, true, false},
		{"later fragment", behind(asks, fragmentation, later), false, false, false, false},
		{"whatever behind more than anybody needs", many, false, true, true, false},
		{"DNS behind an option", behind(dns, hopByHop, hop), false, false, false, false},
		{"advertisement behind a route", behind(router, routing, route), false, true, false, false},
		{"no advertisement behind an option", behind(searches, hopByHop, hop), false, false, false, false},
		{"cut off in an option", behind(asks, destOptions, options)[:etherLen+ip6Len+9], false, false, false, false},
	} {
		for _, p := range []struct {
			name    string
			program []bpf.RawInstruction
			match   int
			want    bool
		}{
			{"capture", captureFilter(), maxFrame, tt.capture}, {"guest", GuestFilter(), verdictDrop, tt.guest},
			{"network", NetworkFilter(), verdictDrop, tt.inward}, {"neighbour", neighbourFilter(), maxFrame, tt.neighbours},
		} {
			if got := run(t, p.program, tt.frame) == p.match; got != p.want {
				t.Errorf("%s: the %s program says %v", tt.name, p.name, got)
			}
		}
	}
}

// behind puts an extension header in front of a packet's payload.
func behind(frame []byte, kind byte, header []byte) []byte {
	out := append(bytes.Clone(frame[:etherLen+ip6Len]), header...)
	out[etherLen+6], out[etherLen+ip6Len] = kind, frame[etherLen+6]
	return append(out, frame[etherLen+ip6Len:]...)
}

// FuzzFrame6 gives the server whatever a guest may send. What it answers by IPv6 can be read, and fits into a frame.
func FuzzFrame6(f *testing.F) {
	f.Add(solicit("fe80::5"))
	f.Add(solicit("::"))
	f.Add(advert(netip.MustParseAddr("fe80::1"), testLease().MAC))
	f.Add(request6Frame(message6(dhcpv6.MessageTypeSolicit, clientID, ia(1))))
	f.Fuzz(func(t *testing.T, frame []byte) {
		told(frame, netip.MustParseAddr("fe80::1"))
		checkReply6(t, (&Server{link: Link{Guest: newPipe()}, lease: *dualLease()}).answerFrame(frame))
	})
}

// FuzzMessage6 does the same behind an intact frame.
func FuzzMessage6(f *testing.F) {
	for kind := dhcpv6.MessageTypeSolicit; kind <= dhcpv6.MessageTypeInformationRequest; kind++ {
		f.Add(message6(kind, clientID, ia(1, "fd00:1::5")).ToBytes())
		f.Add(message6(kind, clientID, serverID6(), ia(1, "fd00:1::9"), ia(2)).ToBytes())
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) > 1400 {
			return
		}
		frame := request6Frame(message6(dhcpv6.MessageTypeSolicit))
		whole := frame6(testLease().MAC, frame[:6], netip.MustParseAddr("fe80::5"), netip.MustParseAddr("ff02::1:2"), protocolUDP,
			append(binary.BigEndian.AppendUint16([]byte{2, 34, 2, 35}, uint16(8+len(message))), append([]byte{0, 0}, message...)...), 6)
		checkReply6(t, (&Server{link: Link{Guest: newPipe()}, lease: *dualLease()}).answerFrame(whole))
	})
}

func checkReply6(t *testing.T, reply []byte) {
	t.Helper()
	if len(reply) > etherLen+1500 {
		t.Errorf("an answer of %d bytes", len(reply))
	}
	if protocol, _, p := parse6(reply); p != nil && protocol == protocolUDP {
		if _, err := dhcpv6.MessageFromBytes(p.payload[udpLen:]); err != nil {
			t.Errorf("an answer that cannot be read: %v", err)
		}
	}
}
