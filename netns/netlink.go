package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	vnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// links speaks rtnetlink with one network namespace. It is not safe for concurrent use.
type links struct {
	*netlink.Handle
	raw map[int]*nl.SocketHandle // for requests that the library has no words for
}

// openLinks opens rtnetlink in the calling thread's namespace. The caller closes it; it can be used on any thread.
func openLinks() (*links, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netns: open netlink socket: %w", err)
	}
	raw, err := nl.GetNetlinkSocketAt(vnetns.None(), vnetns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("netns: open netlink socket: %w", err)
	}
	return &links{Handle: handle, raw: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: raw}}}, nil
}

// linksIn opens rtnetlink in the namespace ns.
func linksIn(ns *os.File) (l *links, err error) {
	err = within(ns, func() error {
		l, err = openLinks()
		return err
	})
	return l, err
}

func (l *links) Close() {
	l.Handle.Close()
	l.raw[unix.NETLINK_ROUTE].Close()
}

// loopbackUp does what the loopback plugin does, in microseconds.
func (l *links) loopbackUp() error {
	lo, err := l.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("netns: find loopback: %w", err)
	}
	if err := l.LinkSetUp(lo); err != nil {
		return fmt.Errorf("netns: set loopback up: %w", err)
	}
	return nil
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	if addr.Is4() && bits == 128 {
		ones -= 96
	}
	p := netip.PrefixFrom(addr, ones)
	return p, p.IsValid()
}

func toAddr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
