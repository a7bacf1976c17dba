package netns

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/qemulet/qemulet/netns/dhcp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// plumb puts the guest in the place of the pod's links, each of which is joined to a tap. It notes in the NICs how that
// was done, and returns the DHCP sockets of the NICs (none for a NIC without an address, or that is a VF). It runs inside the namespace.
func (l *links) plumb(nics []*plannedNIC, want Plumbing) (sockets []dhcp.Link, err error) {
	defer func() {
		if err != nil {
			closeDHCP(sockets)
		}
	}()
	if err := quietNamespace(); err != nil {
		return nil, err
	}
	for _, p := range nics {
		if p.vf != nil {
			sockets = append(sockets, dhcp.Link{})
			continue
		}
		tap, err := l.plumbNIC(p, want)
		if err != nil {
			return sockets, fmt.Errorf("netns: interface %s: %w", p.nic.Name, err)
		}
		socket, err := listenDHCP(p.nic, tap, p.observed.index())
		if err != nil {
			return sockets, fmt.Errorf("netns: interface %s: %w", p.nic.Name, err)
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}

func (l *links) plumbNIC(p *plannedNIC, want Plumbing) (tapIndex int, err error) {
	if err := l.strip(p.observed); err != nil {
		return 0, err
	}
	tap, err := l.prepareTap(p)
	if err != nil {
		return 0, err
	}
	// The filters come first: nothing passes without them.
	if err := l.dropIngress(tap, dhcp.GuestFilter()); err != nil {
		return 0, err
	}
	if p.nic.Plumbing != PlumbingDirect {
		if err := l.dropIngress(p.observed.index(), dhcp.NetworkFilter()); err != nil {
			return 0, err
		}
	}
	return tap, l.wire(p, tap, want)
}

// prepareTap makes a tap, or takes the one that the plugins have made, and sets it up.
func (l *links) prepareTap(p *plannedNIC) (index int, err error) {
	if p.nic.Plumbing != PlumbingDirect {
		if err := createTap(p.nic.Tap, p.nic.Queues); err != nil {
			return 0, err
		}
	}
	tap, err := l.LinkByName(p.nic.Tap)
	if err != nil {
		return 0, fmt.Errorf("find tap %s: %w", p.nic.Tap, err)
	}
	if err := l.LinkSetMTU(tap, p.nic.MTU); err != nil {
		return 0, fmt.Errorf("set MTU %d on %s: %w", p.nic.MTU, p.nic.Tap, err)
	}
	if err := l.LinkSetUp(tap); err != nil {
		return 0, fmt.Errorf("set %s up: %w", p.nic.Tap, err)
	}
	return tap.Attrs().Index, nil
}

// strip takes addresses and routes from a link: they are the guest's now.
func (l *links) strip(o *observedLink) error {
	for i, p := range o.addresses {
		if !p.Addr().Is4() {
			continue // went when IPv6 was disabled
		}
		err := l.AddrDel(o.link, &netlink.Addr{IPNet: toIPNet(p), Peer: peerNet(o.peers, i)})
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // a secondary address goes with its primary one
			return fmt.Errorf("remove address %s: %w", p, err)
		}
	}
	left, err := l.RouteList(o.link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range left {
		if err := l.RouteDel(&r); err != nil && !errors.Is(err, errNoRoute) {
			return fmt.Errorf("remove route %s: %w", r, err)
		}
	}
	return nil
}

// peerNet is the other end of the i-th address, nil if it has none.
func peerNet(peers []netip.Prefix, i int) *net.IPNet {
	if i >= len(peers) || !peers[i].IsValid() {
		return nil
	}
	return toIPNet(peers[i])
}

// randomMAC returns a locally administered unicast address.
func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails
	mac[0] = mac[0]&^0x01 | 0x02
	return mac
}

// quietNamespace makes the kernel a mere cable in the calling thread's namespace. Without IPv6 the links send no
// router solicitations and listener reports and pick up no addresses of their own; the guest's IPv6 passes the bridge
// as any other frame does.
func quietNamespace() error {
	settings := []struct{ path, value string }{
		{"net/ipv6/conf/all/disable_ipv6", "1"},
		// Packets on a bridge are not the host's to filter (br_netfilter).
		{"net/bridge/bridge-nf-call-iptables", "0"},
		{"net/bridge/bridge-nf-call-ip6tables", "0"},
		{"net/bridge/bridge-nf-call-arptables", "0"},
	}
	for _, s := range settings {
		if err := writeSysctl(s.path, s.value); err != nil {
			return err
		}
	}
	return nil
}

// writeSysctl sets a parameter in the calling thread's namespace. One that the kernel does not have needs no setting.
func writeSysctl(path, value string) error {
	err := os.WriteFile("/proc/sys/"+path, []byte(value), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("netns: set %s to %s: %w", path, value, err)
	}
	return nil
}

// listenDHCP opens the sockets that serve a NIC. A tap of the plugins has nothing on its other side to ask for routers.
func listenDHCP(nic Interface, tap, link int) (l dhcp.Link, err error) {
	if len(nic.Addresses) == 0 {
		return dhcp.Link{}, nil
	}
	if l.Guest, err = dhcp.Listen(tap); err != nil {
		return dhcp.Link{}, err
	}
	if nic.Plumbing == PlumbingDirect || !nic.needsRouter6() {
		return l, nil
	}
	if l.Network, err = dhcp.ListenNeighbours(link); err != nil {
		return dhcp.Link{}, errors.Join(err, l.Close())
	}
	return l, nil
}

// needsRouter6 reports whether an IPv6 router is known by an address that hosts do not know routers by.
func (i Interface) needsRouter6() bool {
	return slices.ContainsFunc(i.Routes, func(r Route) bool {
		return r.Gateway.Is6() && !r.Gateway.IsLinkLocalUnicast()
	})
}

// ipv4 returns the address that DHCP gives to the guest: the first IPv4 address.
func (i Interface) ipv4() (netip.Prefix, bool) {
	for _, p := range i.Addresses {
		if p.Addr().Is4() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func closeDHCP(all []dhcp.Link) {
	for _, l := range all {
		_ = l.Close()
	}
}
