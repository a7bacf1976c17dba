package dhcp

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
)

// requestFrame wraps a DHCP message as a client does.
func requestFrame(payload []byte) []byte {
	frame := replyFrame(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, netip.MustParseAddr("255.255.255.255"), payload)
	copy(frame[6:], testLease().MAC)
	binary.BigEndian.PutUint16(frame[etherLen+ipLen:], clientPort)
	binary.BigEndian.PutUint16(frame[etherLen+ipLen+2:], serverPort)
	return frame
}

func discoverFrame(t testing.TB) []byte {
	return requestFrame(request(t, dhcpv4.MessageTypeDiscover).ToBytes())
}

func arpFrame() []byte {
	frame := make([]byte, 60) // padded, as Ethernet has it
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0a, 0x58, 0x0a, 0xf4, 0, 5, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
		0x0a, 0x58, 0x0a, 0xf4, 0, 5, 10, 244, 0, 5, 0, 0, 0, 0, 0, 0, 169, 254, 254, 2})
	return frame
}

func TestReplyFrameChecksums(t *testing.T) {
	for size := range 64 {
		frame := replyFrame(testLease().MAC, netip.MustParseAddr("10.244.0.5"), bytes.Repeat([]byte{0xa5}, size))
		ip := frame[etherLen:]
		if got := checksum(0, ip[:ipLen]); got != 0 {
			t.Errorf("size %d: IP checksum is off by %#x", size, got)
		}
		udp := ip[ipLen:]
		if got := checksum(sum(protocolUDP+uint32(len(udp)), ip[12:20]), udp); got != 0 {
			t.Errorf("size %d: UDP checksum is off by %#x", size, got)
		}
	}
}

func TestRequestPayload(t *testing.T) {
	payload := []byte("a message")
	frame := requestFrame(payload)
	if got := requestPayload(frame); !bytes.Equal(got, payload) {
		t.Errorf("payload %q", got)
	}
	if got := requestPayload(append(frame, 0, 0, 0)); !bytes.Equal(got, payload) {
		t.Errorf("payload of a padded frame %q", got)
	}
	for i := range len(frame) {
		if got := requestPayload(frame[:i]); got != nil {
			t.Errorf("payload of %d bytes of a frame: %q", i, got)
		}
	}
	spoil := func(what string, at int, value byte) {
		bad := bytes.Clone(frame)
		bad[at] = value
		if got := requestPayload(bad); got != nil {
			t.Errorf("%s: payload %q", what, got)
		}
	}
	spoil("IPv6", 12, 0x86)
	spoil("IP version", etherLen, 0x65)
	spoil("IP header length", etherLen, 0x41)
	spoil("long IP header", etherLen, 0x4f)
	spoil("more fragments", etherLen+6, 0x20)
	spoil("later fragment", etherLen+7, 1)
	spoil("TCP", etherLen+9, 6)
	spoil("port", etherLen+ipLen+3, 68)
	spoil("UDP length", etherLen+ipLen+5, 255)
	spoil("short UDP length", etherLen+ipLen+5, 7)
}

func TestARPReply(t *testing.T) {
	reply := arpReply(arpFrame())
	want := []byte{0x0a, 0x58, 0x0a, 0xf4, 0, 5, 2, 0, 169, 254, 254, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2,
		2, 0, 169, 254, 254, 2, 169, 254, 254, 2, 0x0a, 0x58, 0x0a, 0xf4, 0, 5, 10, 244, 0, 5}
	if !bytes.Equal(reply, want) {
		t.Errorf("reply %x\nwant  %x", reply, want)
	}
	other := arpFrame()
	other[41] = 3
	if arpReply(other) != nil || arpReply(reply) != nil || arpReply(arpFrame()[:41]) != nil {
		t.Error("an answer to something else")
	}
}

// TestFilters runs the programs in a virtual machine.
func TestFilters(t *testing.T) {
	discover, udp53, tcp67, fragment, options := discoverFrame(t), discoverFrame(t), discoverFrame(t), discoverFrame(t), discoverFrame(t)
	answer := replyFrame(testLease().MAC, netip.MustParseAddr("10.244.0.5"), []byte("x"))
	answer = append([]byte{2, 2, 2, 2, 2, 2}, answer[6:]...)
	udp53[etherLen+ipLen+3] = 53
	tcp67[etherLen+9] = 6
	fragment[etherLen+7] = 8
	options = append(append(bytes.Clone(options[:etherLen+ipLen]), 1, 1, 1, 1), options[etherLen+ipLen:]...)
	options[etherLen] = 0x46
	otherARP, toServer := arpFrame(), bytes.Clone(udp53)
	otherARP[41] = 3
	copy(toServer, ServerMAC())
	almost := bytes.Clone(toServer)
	almost[5]++
	tests := []struct {
		name                   string
		frame                  []byte
		capture, guest, inward bool
	}{
		{"discover", discover, true, true, true},
		{"discover with IP options", options, true, true, true},
		{"answer of another server", answer, false, true, true},
		{"DNS", udp53, false, false, false},
		{"TCP", tcp67, false, false, false},
		{"later fragment", fragment, false, false, false},
		{"ARP for the server", arpFrame(), true, true, false},
		{"ARP for another", otherARP, false, false, false},
		{"to the server", toServer, false, true, false},
		{"almost to the server", almost, false, false, false},
		{"short", discover[:20], false, false, false},
		{"empty", nil, false, false, false},
	}
	for _, tt := range tests {
		for _, p := range []struct {
			name    string
			program []bpf.RawInstruction
			match   int
			want    bool
		}{{"capture", captureFilter(), maxFrame, tt.capture}, {"guest", GuestFilter(), verdictDrop, tt.guest}, {"network", NetworkFilter(), verdictDrop, tt.inward}} {
			if got := run(t, p.program, tt.frame) == p.match; got != p.want {
				t.Errorf("%s: the %s program says %v", tt.name, p.name, got)
			}
		}
	}
}

func run(t *testing.T, program []bpf.RawInstruction, frame []byte) int {
	t.Helper()
	code, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatal("the program does not disassemble")
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
