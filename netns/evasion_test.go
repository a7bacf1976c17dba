package netns

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHiddenDHCP: a guest that dresses up what it must not send, as scanners of networks do, sends it in vain; what is dressed up
// alike and harmless crosses.
func TestHiddenDHCP(t *testing.T) {
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, bridgeNet())
			n.o.Plumbing = plumbing
			network := n.setup(testPod(1))
			guest := newGuest(t, n, network, 0)
			guest.startDHCP().wait("bound")
			node := packetSocket(t, n.ports()[0]) // before the node's firewall looks at it
			var inside *os.File
			inNamespace(t, guest.path, func(*links) error {
				inside = packetSocket(t, "eth0")
				return nil
			})
			mac := net.HardwareAddr(network.Interfaces()[0].MAC)
			for i, frame := range hiddenFrames(mac, 547, 134, 67) {
				_, err := inside.Write(append(frame, fmt.Sprintf("hidden %d", i)...))
				n.must(err)
			}
			harmless := hiddenFrames(mac, 5547, 200, 1067)
			for i, frame := range harmless {
				_, err := inside.Write(append(frame, fmt.Sprintf("harmless %d", i)...))
				n.must(err)
			}
			crossed := 0
			for crossed < len(harmless) {
				frame := readFrame(t, node)
				switch {
				case bytes.Contains(frame, []byte("hidden ")):
					t.Errorf("on the CNI side: %q", frame)
				case bytes.Contains(frame, []byte("harmless ")):
					crossed++
				}
			}
		})
	}
}

// packetSocket is one on a link of the calling thread's namespace.
func packetSocket(t *testing.T, link string) *os.File {
	t.Helper()
	iface, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index})
	}
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), link)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func readFrame(t *testing.T, socket *os.File) []byte {
	t.Helper()
	buf := make([]byte, 1<<16)
	_ = socket.SetReadDeadline(time.Now().Add(10 * time.Second))
	size, err := socket.Read(buf)
	if err != nil {
		t.Fatalf("read frames: %v", err)
	}
	return buf[:size]
}

// hiddenFrames are UDP packets to a port and ICMPv6 messages of a kind, behind extension headers, and UDP of IPv4 behind options and
// VLAN tags of priority.
func hiddenFrames(mac net.HardwareAddr, port6 uint16, kind byte, port4 uint16) [][]byte {
	udp := func(port uint16) []byte { return binary.BigEndian.AppendUint16([]byte{2, 34}, port) }
	udp6 := append(udp(port6), 0, 40, 0, 0)
	udp4 := append(udp(port4), 0, 40, 0, 0)
	icmp := []byte{kind, 0, 0, 0, 64, 0, 0, 0}
	hop := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	first := func(next byte) []byte { return []byte{next, 0, 0, 1, 1, 2, 3, 4} }
	v6 := func(next byte, parts ...[]byte) []byte {
		payload := bytes.Join(parts, nil)
		frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
		frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0)
		frame = binary.BigEndian.AppendUint16(frame, uint16(len(payload)+32))
		frame = append(frame, next, 255)
		frame = append(frame, net.ParseIP("fe80::5")...)
		frame = append(frame, net.ParseIP("ff02::1")...)
		return append(frame, payload...)
	}
	v4 := func(between, options []byte) []byte {
		frame := append(append([]byte{255, 255, 255, 255, 255, 255}, mac...), between...)
		frame = append(frame, 8, 0, byte(0x45+len(options)/4), 0, 0, byte(20+len(options)+40), 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255)
		return append(append(frame, options...), udp4...)
	}
	return [][]byte{
		v6(0, hop(17), udp6), v6(0, hop(58), icmp), v6(60, append([]byte{17, 2}, make([]byte, 22)...), udp6),
		v6(44, first(17), udp6), v6(0, hop(60), hop(44), first(58), icmp), v6(0, hop(60), hop(43), []byte{58, 0, 253, 0, 0, 0, 0, 0}, icmp),
		v4(nil, []byte{148, 4, 0, 0}), v4([]byte{0x81, 0, 0xe0, 0}, nil),
	}
}
