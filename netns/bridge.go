package netns

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridge makes the link of the plugins and the tap ports of a bridge. The link gets another MAC address: a bridge
// delivers what is for the address of a port of its own to itself.
func (l *links) bridge(p *plannedNIC, tap int) error {
	p.nic.Plumbing, p.nic.Bridge = PlumbingBridge, p.bridgeName
	if err := l.strangeMAC(p); err != nil {
		return err
	}
	bridge, err := l.createBridge(p.nic)
	if err != nil {
		return err
	}
	for _, port := range []int{p.observed.index(), tap} {
		if err := l.LinkSetMasterByIndex(byIndex(port), bridge.Attrs().Index); err != nil {
			return fmt.Errorf("make link %d a port of %s: %w", port, p.nic.Bridge, err)
		}
	}
	for _, link := range []netlink.Link{p.observed.link, bridge} {
		if err := l.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
		}
	}
	return nil
}

// byIndex is a link for requests that look at nothing but the index.
func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// createBridge makes a bridge that is no more than a cable: it learns no addresses, so that a guest's address that
// moves is never looked for on the wrong side, and floods multicast.
func (l *links) createBridge(nic Interface) (*netlink.Bridge, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = nic.Bridge, nic.MTU, randomMAC()
	ageing, snooping := uint32(0), false
	bridge := &netlink.Bridge{LinkAttrs: attrs, AgeingTime: &ageing, MulticastSnooping: &snooping}
	err := l.LinkAdd(bridge)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("make bridge %s: %w: the kernel's module bridge is needed (modprobe bridge)", nic.Bridge, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", nic.Bridge, err)
	}
	return bridge, nil
}
