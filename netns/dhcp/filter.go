package dhcp

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
)

// Verdicts of a traffic-control program in direct-action mode (linux/pkt_cls.h).
const (
	verdictPass = 0xffffffff // TC_ACT_UNSPEC
	verdictDrop = 2          // TC_ACT_SHOT
)

// GuestFilter is the classic BPF program, for the tap's ingress, that drops what must not leave the guest's side of the
// tap: DHCP in either direction, router advertisements, and frames for the server itself. Its result is a traffic-control
// action.
func GuestFilter() []bpf.RawInstruction {
	mac := ServerMAC()
	p := newProgram()
	p.load(0, 4).unless(binary.BigEndian.Uint32(mac), "not the server")
	p.load(4, 2).when(uint32(binary.BigEndian.Uint16(mac[4:])), "match")
	p.label("not the server")
	p.load(12, 2).when(etherTypeARP, "arp").when(etherTypeIPv6, "ipv6").unless(etherTypeIPv4, "no match")
	p.udpPort().when(serverPort, "match").when(clientPort, "match").jump("no match")
	p.label("ipv6").upperLayer6().when(protocolUDP, "udp6").unless(protocolICMPv6, "no match")
	p.add(bpf.LoadIndirect{Off: 0, Size: 1}).unless(routerAdvertise, "no match").jump("match")
	p.label("udp6").matchPorts6()
	p.label("arp").matchServerARP()
	return p.end(verdictDrop, verdictPass)
}

// NetworkFilter is the program for the ingress of the link on the other side: it drops DHCP that comes from the network.
func NetworkFilter() []bpf.RawInstruction {
	p := newProgram()
	p.load(12, 2).when(etherTypeIPv6, "ipv6").unless(etherTypeIPv4, "no match")
	p.udpPort().when(serverPort, "match").when(clientPort, "match").jump("no match")
	p.label("ipv6").upperLayer6().unless(protocolUDP, "no match")
	p.matchPorts6()
	return p.end(verdictDrop, verdictPass)
}

// captureFilter is the socket's filter: requests to a DHCP server, ARP requests for this one, and searches for routers. Its
// result is the number of bytes to keep.
func captureFilter() []bpf.RawInstruction {
	p := newProgram()
	p.load(12, 2).when(etherTypeARP, "arp").when(etherTypeIPv6, "ipv6").unless(etherTypeIPv4, "no match")
	p.udpPort().when(serverPort, "match").jump("no match")
	p.label("ipv6").dispatch6("udp6").unless(routerSolicit, "no match").jump("match")
	p.label("udp6").udp6Port().when(server6Port, "match").jump("no match")
	p.label("arp").matchServerARP()
	return p.end(maxFrame, 0)
}

// neighbourFilter is the filter of the socket on the other side: answers of neighbours.
func neighbourFilter() []bpf.RawInstruction {
	p := newProgram()
	p.load(12, 2).unless(etherTypeIPv6, "no match")
	p.dispatch6("no match").unless(neighbourTell, "no match").jump("match")
	return p.end(maxFrame, 0)
}

// program assembles a filter with named, forward-only jumps. "match" and "no match" are its two ends.
type program struct {
	code   []bpf.Instruction
	jumps  map[int]string // index of a jump -> where to
	labels map[string]int
}

func newProgram() *program {
	return &program{jumps: make(map[int]string), labels: make(map[string]int)}
}

func (p *program) add(i bpf.Instruction) *program {
	p.code = append(p.code, i)
	return p
}

func (p *program) label(name string) *program {
	p.labels[name] = len(p.code)
	return p
}

func (p *program) load(offset, size int) *program {
	return p.add(bpf.LoadAbsolute{Off: uint32(offset), Size: size})
}

// when jumps if what was loaded equals value.
func (p *program) when(value uint32, label string) *program {
	p.jumps[len(p.code)] = label
	return p.add(bpf.JumpIf{Cond: bpf.JumpEqual, Val: value})
}

// unless jumps if what was loaded differs from value.
func (p *program) unless(value uint32, label string) *program {
	p.jumps[len(p.code)] = label
	return p.add(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value})
}

func (p *program) jump(label string) *program {
	p.jumps[len(p.code)] = label
	return p.add(bpf.Jump{})
}

// udpPort loads the destination port of an IPv4 UDP packet; other packets, and later fragments, do not match.
func (p *program) udpPort() *program {
	p.load(etherLen+9, 1).unless(protocolUDP, "no match")
	p.load(etherLen+6, 2).add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x1fff}).unless(0, "no match")
	p.add(bpf.LoadMemShift{Off: etherLen})
	return p.add(bpf.LoadIndirect{Off: etherLen + 2, Size: 2})
}

// dispatch6 goes on with UDP over IPv6 elsewhere, and loads the type of an ICMPv6 message; other packets do not match.
func (p *program) dispatch6(udp string) *program {
	p.load(etherLen+6, 1).when(protocolUDP, udp).unless(protocolICMPv6, "no match")
	return p.load(etherLen+ip6Len, 1)
}

// udp6Port loads the destination port of UDP over IPv6.
func (p *program) udp6Port() *program { return p.load(etherLen+ip6Len+2, 2) }

// Extension headers of IPv6 that hosts pass over (RFC 8200, section 4).
const (
	hopByHop      = 0
	routing       = 43
	fragmentation = 44
	destOptions   = 60

	maxExtensions = 4 // nobody sends more but to get past a filter
)

// upperLayer6 loads the protocol of an IPv6 packet behind its extension headers, and points X at it. Later fragments do not match,
// since nobody takes them without the first one; more headers than anybody needs do.
func (p *program) upperLayer6() *program {
	p.add(bpf.LoadConstant{Dst: bpf.RegX, Val: etherLen + ip6Len}).load(etherLen+6, 1)
	for i := range maxExtensions {
		fragment, extension, next := fmt.Sprint("fragment ", i), fmt.Sprint("extension ", i), fmt.Sprint("next ", i)
		p.when(fragmentation, fragment)
		p.when(hopByHop, extension).when(routing, extension).unless(destOptions, "upper layer")
		p.label(extension).add(bpf.LoadIndirect{Off: 1, Size: 1}) // its length in units of eight bytes, without the first
		p.add(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1}).add(bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3})
		p.jump(next)
		p.label(fragment).add(bpf.LoadIndirect{Off: 2, Size: 2}).add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff8}).unless(0, "no match")
		p.add(bpf.LoadConstant{Dst: bpf.RegA, Val: 8})
		p.label(next).add(bpf.StoreScratch{Src: bpf.RegA, N: 0}).add(bpf.LoadIndirect{Off: 0, Size: 1}).add(bpf.StoreScratch{Src: bpf.RegA, N: 1})
		p.add(bpf.LoadScratch{Dst: bpf.RegA, N: 0}).add(bpf.ALUOpX{Op: bpf.ALUOpAdd}).add(bpf.TAX{})
		p.add(bpf.LoadScratch{Dst: bpf.RegA, N: 1})
	}
	p.when(fragmentation, "match").when(hopByHop, "match").when(routing, "match").when(destOptions, "match")
	return p.label("upper layer")
}

// matchPorts6 matches UDP at X to a port of DHCPv6.
func (p *program) matchPorts6() {
	p.add(bpf.LoadIndirect{Off: 2, Size: 2}).when(server6Port, "match").when(client6Port, "match").jump("no match")
}

// matchServerARP matches ARP requests for the server's address.
func (p *program) matchServerARP() {
	ip := ServerIP().As4()
	p.load(etherLen+6, 2).unless(1, "no match")
	p.load(etherLen+24, 4).unless(binary.BigEndian.Uint32(ip[:]), "no match")
	p.jump("match")
}

func (p *program) end(match, noMatch uint32) []bpf.RawInstruction {
	p.label("match").add(bpf.RetConstant{Val: match})
	p.label("no match").add(bpf.RetConstant{Val: noMatch})
	for i, label := range p.jumps {
		p.resolve(i, p.labels[label]-i-1)
	}
	raw, err := bpf.Assemble(p.code)
	if err != nil {
		panic(fmt.Sprintf("dhcp: a constant program does not assemble: %v", err))
	}
	return raw
}

func (p *program) resolve(i, distance int) {
	if distance > 255 {
		panic("dhcp: a constant program jumps too far")
	}
	switch jump := p.code[i].(type) {
	case bpf.JumpIf:
		jump.SkipTrue = uint8(distance)
		p.code[i] = jump
	case bpf.Jump:
		jump.Skip = uint32(distance)
		p.code[i] = jump
	}
}
