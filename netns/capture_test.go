package netns

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// capture records the UDP packets to DHCP ports, ARP for the DHCP server and router advertisements, on all links of a
// namespace.
type capture struct {
	t    *testing.T
	file *os.File
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen []captured
	more chan struct{}
}

type captured struct {
	arp  bool
	dst  netip.Addr
	port uint16
}

// startCapture captures in the calling thread's namespace.
func startCapture(t *testing.T) *capture {
	t.Helper()
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{t: t, file: os.NewFile(uintptr(fd), "capture"), more: make(chan struct{}, 1)}
	c.wg.Go(c.run)
	t.Cleanup(c.stop)
	return c
}

func (c *capture) stop() {
	_ = c.file.Close()
	c.wg.Wait()
}

func (c *capture) run() {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.file.Read(buf)
		if err != nil {
			return
		}
		if p, ok := parseCaptured(buf[:n]); ok {
			c.mu.Lock()
			c.seen = append(c.seen, p)
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
		}
	}
}

func parseCaptured(f []byte) (captured, bool) {
	if len(f) < 42 {
		return captured{}, false
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_ARP:
		dst := netip.AddrFrom4([4]byte(f[38:42]))
		return captured{arp: true, dst: dst}, dst == netip.MustParseAddr("169.254.254.2")
	case unix.ETH_P_IP:
		port := binary.BigEndian.Uint16(f[36:])
		return captured{dst: netip.AddrFrom4([4]byte(f[30:34])), port: port}, f[23] == unix.IPPROTO_UDP && (port == 67 || port == 68)
	case unix.ETH_P_IPV6:
		if len(f) < 58 {
			return captured{}, false
		}
		port, isUDP, isICMP := binary.BigEndian.Uint16(f[56:]), f[20] == unix.IPPROTO_UDP, f[20] == unix.IPPROTO_ICMPV6
		return captured{dst: netip.AddrFrom16([16]byte(f[38:54])), port: port}, isUDP && (port == 546 || port == 547) || isICMP && f[54] == 134
	}
	return captured{}, false
}

func (c *capture) packets() []captured {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]captured(nil), c.seen...)
}
