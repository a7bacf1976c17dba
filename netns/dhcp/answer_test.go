package dhcp

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

func testLease() Lease {
	return Lease{
		MAC:      net.HardwareAddr{0x0a, 0x58, 0x0a, 0xf4, 0, 5},
		Address:  netip.MustParsePrefix("10.244.0.5/24"),
		Routes:   parseRoutes("0.0.0.0/0 10.244.0.1"),
		DNS:      []netip.Addr{netip.MustParseAddr("fd00::10"), netip.MustParseAddr("10.96.0.10")},
		Searches: []string{"default.svc.cluster.local.", "svc.cluster.local", "cluster.local"},
		Hostname: "vm-1",
		MTU:      1450,
	}
}

// parseRoutes reads "destination" and "destination gateway" pairs.
func parseRoutes(list ...string) []Route {
	var out []Route
	for _, s := range list {
		dst, gateway, ok := strings.Cut(s, " ")
		r := Route{Dst: netip.MustParsePrefix(dst)}
		if ok {
			r.Gateway = netip.MustParseAddr(gateway)
		}
		out = append(out, r)
	}
	return out
}

func request(t testing.TB, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	l := testLease()
	mods = append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(l.MAC)}, mods...)
	req, err := dhcpv4.New(mods...)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func option(code uint8, value ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), value)
}

var (
	ours   = []byte{10, 244, 0, 5}
	others = []byte{10, 244, 0, 6}
)

func TestAnswerKinds(t *testing.T) {
	renewing := func(ip []byte) dhcpv4.Modifier { return dhcpv4.WithClientIP(ip) }
	wants := func(ip []byte) dhcpv4.Modifier { return option(50, ip...) }
	from := func(ip ...byte) dhcpv4.Modifier { return option(54, ip...) }
	tests := []struct {
		name string
		kind dhcpv4.MessageType
		mods []dhcpv4.Modifier
		want dhcpv4.MessageType // 0: silence
	}{
		{"discover", dhcpv4.MessageTypeDiscover, nil, dhcpv4.MessageTypeOffer},
		{"discover with a wish", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{wants(others)}, dhcpv4.MessageTypeOffer},
		{"discover with an address", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{renewing(others)}, dhcpv4.MessageTypeOffer},
		{"selecting", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{wants(ours), from(169, 254, 254, 2)}, dhcpv4.MessageTypeAck},
		{"selecting another address", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{wants(others), from(169, 254, 254, 2)}, dhcpv4.MessageTypeNak},
		{"selecting another server", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{wants(ours), from(10, 0, 0, 1)}, 0},
		{"rebooted", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{wants(ours)}, dhcpv4.MessageTypeAck},
		{"rebooted elsewhere", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{wants(others), option(97, 0, 9), option(61, 1, 2)}, dhcpv4.MessageTypeNak},
		{"renewing", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{renewing(ours)}, dhcpv4.MessageTypeAck},
		{"renewing another address", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{renewing(others)}, dhcpv4.MessageTypeNak},
		{"wanting nothing", dhcpv4.MessageTypeRequest, nil, 0},
		{"inform", dhcpv4.MessageTypeInform, []dhcpv4.Modifier{renewing(ours)}, dhcpv4.MessageTypeAck},
		{"inform from nowhere", dhcpv4.MessageTypeInform, nil, 0},
		{"release", dhcpv4.MessageTypeRelease, []dhcpv4.Modifier{renewing(ours)}, 0},
		{"decline", dhcpv4.MessageTypeDecline, []dhcpv4.Modifier{wants(ours)}, 0},
		{"plain BOOTP", dhcpv4.MessageTypeNone, nil, 0},
		{"a server's message", dhcpv4.MessageTypeOffer, nil, 0},
		{"another client", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 9})}, 0},
		{"relayed", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithGatewayIP(net.IP{10, 0, 0, 1})}, 0},
		{"a reply", dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{func(d *dhcpv4.DHCPv4) { d.OpCode = dhcpv4.OpcodeBootReply }}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := testLease()
			req := request(t, tt.kind, tt.mods...)
			reply := l.Answer(req)
			var got dhcpv4.MessageType
			if reply != nil {
				got = reply.MessageType()
				checkReply(t, req, reply)
			}
			if got != tt.want {
				t.Errorf("answered %v, want %v", got, tt.want)
			}
		})
	}
}

// checkReply verifies what RFC 2131, table 3, says of every answer.
func checkReply(t *testing.T, req, reply *dhcpv4.DHCPv4) {
	t.Helper()
	back, err := dhcpv4.FromBytes(reply.ToBytes())
	if err != nil {
		t.Fatalf("the answer does not parse: %v", err)
	}
	if back.TransactionID != req.TransactionID || !bytes.Equal(back.ClientHWAddr, req.ClientHWAddr) || back.OpCode != dhcpv4.OpcodeBootReply {
		t.Errorf("not an answer to the request: %s", back.Summary())
	}
	if !back.ServerIdentifier().Equal(ServerIP().AsSlice()) {
		t.Errorf("server identifier %s", back.ServerIdentifier())
	}
	hasLease := back.Options.Has(dhcpv4.OptionIPAddressLeaseTime)
	switch {
	case back.MessageType() == dhcpv4.MessageTypeNak:
		for code := range back.Options {
			if !slices.Contains([]uint8{53, 54, 56, 61}, code) {
				t.Errorf("a refusal has the option %d: %s", code, back.Summary())
			}
		}
		if hasLease || !back.YourIPAddr.IsUnspecified() || !back.ClientIPAddr.IsUnspecified() || !back.IsBroadcast() || back.Message() == "" {
			t.Errorf("a refusal says too much: %s", back.Summary())
		}
	case req.MessageType() == dhcpv4.MessageTypeInform:
		if hasLease || !back.YourIPAddr.IsUnspecified() || !back.Options.Has(dhcpv4.OptionSubnetMask) {
			t.Errorf("answer to INFORM: %s", back.Summary())
		}
	default:
		if back.MessageType() == dhcpv4.MessageTypeOffer && !back.ClientIPAddr.IsUnspecified() {
			t.Errorf("an offer to one that has an address: %s", back.Summary())
		}
		if !back.YourIPAddr.Equal(ours) || back.IPAddressLeaseTime(0) != LeaseTime {
			t.Errorf("lease: %s", back.Summary())
		}
	}
}

func TestOptions(t *testing.T) {
	l := testLease()
	reply := l.Answer(request(t, dhcpv4.MessageTypeDiscover, option(61, 1, 2, 3), option(97, 0, 9, 9), dhcpv4.WithBroadcast(true)))
	want := map[uint8][]byte{
		1: {255, 255, 255, 0}, 3: {10, 244, 0, 1}, 6: {10, 96, 0, 10}, 12: []byte("vm-1"), 15: []byte("default.svc.cluster.local"),
		26: {1450 >> 8, 1450 & 0xff}, 51: {0, 1, 0x51, 0x80}, 54: {169, 254, 254, 2}, 58: {0, 0, 0xa8, 0xc0}, 59: {0, 0, 0xfd, 0x20},
		61: {1, 2, 3}, 97: {0, 9, 9}, 121: nil,
	}
	for code, value := range want {
		if got := reply.Options.Get(dhcpv4.GenericOptionCode(code)); !bytes.Equal(got, value) {
			t.Errorf("option %d = %v, want %v", code, got, value)
		}
	}
	search := reply.Options.Get(dhcpv4.OptionDNSDomainSearchList)
	labels, err := rfc1035label.FromBytes(search)
	if err != nil || !slices.Equal(labels.Labels, []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}) {
		t.Errorf("search list %v, %v", labels, err)
	}
	if search[len(search)-1] != 0 {
		t.Errorf("the search list lacks its final zero: %v", search)
	}
	if !reply.IsBroadcast() {
		t.Error("the broadcast flag was not kept")
	}
}

func TestNothingToSay(t *testing.T) {
	l := Lease{MAC: testLease().MAC, Address: testLease().Address, Searches: []string{"", "..", strings.Repeat("x", 64) + ".org"}}
	reply := l.Answer(request(t, dhcpv4.MessageTypeDiscover))
	for _, code := range []uint8{3, 6, 12, 15, 26, 61, 97, 119} {
		if reply.Options.Has(dhcpv4.GenericOptionCode(code)) {
			t.Errorf("option %d was sent", code)
		}
	}
}

func TestRoutes(t *testing.T) {
	const server = "169.254.254.2/32 0.0.0.0"
	tests := []struct {
		name, address string
		routes        []Route
		requested     []byte // option 55
		router        string
		classless     string
	}{
		{"router alone", "10.244.0.5/24", parseRoutes("0.0.0.0/0 10.244.0.1"), nil, "10.244.0.1", ""},
		{"none", "10.244.0.5/24", nil, nil, "", server},
		{"no default", "10.244.0.5/24", parseRoutes("10.9.0.0/16 10.244.0.9"), nil, "", server + ", 10.9.0.0/16 10.244.0.9"},
		{"default and others", "10.244.0.5/24", parseRoutes("0.0.0.0/0 10.244.0.1", "10.9.0.0/16 10.244.0.9"), nil, "",
			"10.9.0.0/16 10.244.0.9, 0.0.0.0/0 10.244.0.1"},
		{"single address", "10.244.0.5/32", parseRoutes("0.0.0.0/0 169.254.1.1", "169.254.1.1/32"), nil, "",
			"169.254.1.1/32 0.0.0.0, 0.0.0.0/0 169.254.1.1"},
		{"next hop elsewhere", "10.244.0.5/24", parseRoutes("0.0.0.0/0 192.0.2.1"), nil, "",
			"192.0.2.1/32 0.0.0.0, 0.0.0.0/0 192.0.2.1"},
		{"two with the same next hop elsewhere", "10.244.0.5/24", parseRoutes("0.0.0.0/0 192.0.2.1", "10.9.0.0/16 192.0.2.1"), nil, "",
			"192.0.2.1/32 0.0.0.0, 10.9.0.0/16 192.0.2.1, 0.0.0.0/0 192.0.2.1"},
		{"client without classless routes", "10.244.0.5/32", parseRoutes("0.0.0.0/0 169.254.1.1"), []byte{1, 3, 6}, "169.254.1.1",
			"169.254.1.1/32 0.0.0.0, 0.0.0.0/0 169.254.1.1"},
		{"client with classless routes", "10.244.0.5/32", parseRoutes("0.0.0.0/0 169.254.1.1"), []byte{1, 3, 6, 121}, "",
			"169.254.1.1/32 0.0.0.0, 0.0.0.0/0 169.254.1.1"},
		{"IPv6 beside it", "10.244.0.5/24", parseRoutes("::/0 fe80::1", "0.0.0.0/0 10.244.0.1"), nil, "10.244.0.1", ""},
		{"default on the link", "10.244.0.5/32", parseRoutes("0.0.0.0/0"), nil, "", "0.0.0.0/0 0.0.0.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := testLease()
			l.Address, l.Routes = netip.MustParsePrefix(tt.address), tt.routes
			var mods []dhcpv4.Modifier
			if tt.requested != nil {
				mods = append(mods, option(55, tt.requested...))
			} else {
				mods = append(mods, func(d *dhcpv4.DHCPv4) { d.Options.Del(dhcpv4.OptionParameterRequestList) })
			}
			reply := l.Answer(request(t, dhcpv4.MessageTypeDiscover, mods...))
			var router string
			if r := reply.Router(); len(r) > 0 {
				router = r[0].String()
			}
			var classless []string
			for _, r := range reply.ClasslessStaticRoute() {
				classless = append(classless, fmt.Sprintf("%s %s", r.Dest, r.Router))
			}
			if got := strings.Join(classless, ", "); router != tt.router || got != tt.classless {
				t.Errorf("router %q, classless %q\nwant   %q, classless %q", router, got, tt.router, tt.classless)
			}
		})
	}
}

// TestMoreRoutesThanFit: the client is not left without an answer, nor without its router.
func TestMoreRoutesThanFit(t *testing.T) {
	l := testLease()
	l.Address = netip.MustParsePrefix("10.244.0.5/32")
	l.Routes = parseRoutes("169.254.1.1/32", "0.0.0.0/0 169.254.1.1", "10.244.0.9/32")
	for i := range 300 {
		l.Routes = append(l.Routes, parseRoutes(fmt.Sprintf("10.%d.%d.0/24 169.254.1.1", i/256, i%256))...)
		if i < 20 {
			l.Routes = append(l.Routes, parseRoutes(fmt.Sprintf("172.16.%d.0/24 10.244.0.9", i))...)
		}
	}
	for _, size := range []int{576, 1500} {
		reply := l.Answer(request(t, dhcpv4.MessageTypeDiscover, option(57, byte(size>>8), byte(size))))
		if got, limit := len(reply.ToBytes()), min(size, l.MTU)-28; got > limit {
			t.Errorf("client takes %d: the answer has %d bytes, the limit is %d", size, got, limit)
		}
		var told []string
		for _, r := range reply.ClasslessStaticRoute() {
			told = append(told, fmt.Sprintf("%s %s", r.Dest, r.Router))
		}
		for _, want := range []string{"169.254.1.1/32 0.0.0.0", "0.0.0.0/0 169.254.1.1", "10.244.0.9/32 0.0.0.0", "172.16.3.0/24 10.244.0.9", "172.16.19.0/24 10.244.0.9"} {
			if !slices.Contains(told, want) {
				t.Errorf("client takes %d: %d routes, without %s", size, len(told), want)
			}
		}
		if len(told) < 23 {
			t.Errorf("client takes %d: %d routes", size, len(told))
		}
	}
	l.Routes = nil
	for i := range 300 {
		l.Routes = append(l.Routes, Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i / 256), byte(i)}), 32)})
	}
	if got := len(l.Answer(request(t, dhcpv4.MessageTypeDiscover)).ToBytes()); got > 548 || got < 500 {
		t.Errorf("routes on the link: %d bytes", got)
	}
	greedy := []dhcpv4.Modifier{option(61, make([]byte, 255)...), option(97, make([]byte, 255)...)}
	if reply := l.Answer(request(t, dhcpv4.MessageTypeDiscover, greedy...)); len(reply.ClasslessStaticRoute()) > 0 {
		t.Error("an answer that is full already has routes")
	}
}

func TestAnswerFitsTheClient(t *testing.T) {
	l := testLease()
	l.Searches = nil
	for i := range 40 {
		l.Searches = append(l.Searches, fmt.Sprintf("%s%d.example.org", strings.Repeat("a", 40), i))
	}
	sizes := map[int]int{0: 576 - 28, 300: 576 - 28, 1000: 1000 - 28, 9000: 1450 - 28}
	for asked, limit := range sizes {
		var mods []dhcpv4.Modifier
		if asked > 0 {
			mods = append(mods, option(57, byte(asked>>8), byte(asked)))
		}
		reply := l.Answer(request(t, dhcpv4.MessageTypeDiscover, mods...))
		size := len(reply.ToBytes())
		if size > limit || size < limit-100 {
			t.Errorf("client takes %d: the answer has %d bytes, the limit is %d", asked, size, limit)
		}
		if _, err := rfc1035label.FromBytes(reply.Options.Get(dhcpv4.OptionDNSDomainSearchList)); err != nil {
			t.Errorf("search list cut in the middle: %v", err)
		}
	}
}
