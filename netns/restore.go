package netns

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// errNoRoute is the kernel's answer to the removal of a route that went with another one.
const errNoRoute = unix.ESRCH

// save notes what restore needs.
func save(nics []*plannedNIC) []savedLink {
	var saved []savedLink
	for _, p := range nics {
		saved = append(saved, savedLink{
			Name:      p.nic.Name,
			MAC:       HardwareAddr(p.observed.link.Attrs().HardwareAddr),
			Addresses: p.observed.addresses,
			Peers:     p.observed.peers,
			Routes:    p.observed.routes,
			AllMulti:  p.observed.link.Attrs().Allmulti != 0,
			VF:        p.vf,
		})
	}
	return saved
}

// restore makes the links of the plugins what they were, because a plugin that undoes its work looks at them: the bridge
// plugin removes masquerading for the addresses that it finds, others take their link back to where it came from. Tap
// and bridge go with the namespace. Everything is tried; what cannot be restored is reported together.
func restore(ns *os.File, saved []savedLink) error {
	if len(saved) == 0 {
		return nil
	}
	return within(ns, func() error {
		l, err := openLinks()
		if err != nil {
			return err
		}
		defer l.Close()
		var errs []error
		if hasIPv6(saved) {
			errs = append(errs, writeSysctl("net/ipv6/conf/all/disable_ipv6", "0"))
		}
		for _, s := range saved {
			errs = append(errs, l.restoreLink(s))
		}
		return errors.Join(errs...)
	})
}

func hasIPv6(saved []savedLink) bool {
	for _, s := range saved {
		for _, p := range s.Addresses {
			if p.Addr().Is6() {
				return true
			}
		}
	}
	return false
}

func (l *links) restoreLink(s savedLink) error {
	link, err := l.LinkByName(s.Name)
	if isNotFound(err) {
		return nil // a plugin took it away already
	}
	if err != nil {
		return fmt.Errorf("netns: find link %s: %w", s.Name, err)
	}
	var errs []error
	if err := l.LinkSetNoMaster(link); err != nil {
		errs = append(errs, fmt.Errorf("netns: take %s from its bridge: %w", s.Name, err))
	}
	if err := l.LinkSetHardwareAddr(link, net.HardwareAddr(s.MAC)); err != nil {
		errs = append(errs, fmt.Errorf("netns: restore MAC address of %s: %w", s.Name, err))
	}
	if !s.AllMulti {
		if err := l.LinkSetAllmulticastOff(link); err != nil {
			errs = append(errs, fmt.Errorf("netns: restore multicast filter of %s: %w", s.Name, err))
		}
	}
	for i, p := range s.Addresses {
		addr := &netlink.Addr{IPNet: toIPNet(p), Peer: peerNet(s.Peers, i), Flags: unix.IFA_F_NODAD}
		if err := l.AddrReplace(link, addr); err != nil {
			errs = append(errs, fmt.Errorf("netns: restore address %s of %s: %w", p, s.Name, err))
		}
	}
	l.restoreRoutes(link, s.Routes)
	return errors.Join(errs...)
}

// restoreRoutes does what it can: no plugin depends on routes of a link that it is about to remove.
func (l *links) restoreRoutes(link netlink.Link, routes []kernelRoute) {
	for _, r := range routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: toIPNet(r.Dst), Scope: netlink.SCOPE_LINK, Priority: r.Metric}
		if r.Gateway.IsValid() {
			route.Gw, route.Scope, route.Flags = r.Gateway.AsSlice(), netlink.SCOPE_UNIVERSE, int(netlink.FLAG_ONLINK)
		}
		_ = l.RouteReplace(route)
	}
}

func isNotFound(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound)
}
