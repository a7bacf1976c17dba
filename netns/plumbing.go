package netns

import (
	"bytes"
	"errors"
	"fmt"
	"net"
)

// Plumbing is how frames pass between a link of the plugins and the guest.
type Plumbing string

const (
	// PlumbingAuto redirects, and bridges where a redirection cannot be made. It is the default.
	PlumbingAuto Plumbing = "auto"
	// PlumbingRedirect hands every frame that arrives at one end to the other (tc-mirred(8)). The link keeps its MAC
	// address, so that it works for links that receive nothing else.
	PlumbingRedirect Plumbing = "redirect"
	// PlumbingBridge makes both ends ports of a bridge. It needs no traffic control but for the filter of DHCP. Links that
	// receive for one MAC address only are redirected all the same.
	PlumbingBridge Plumbing = "bridge"
	// PlumbingDirect is what an Interface says whose tap the plugins have made themselves: the guest is on the link.
	PlumbingDirect Plumbing = "direct"
	// PlumbingPassthrough is what an Interface says that is a VF of an SR-IOV card: the guest has the device itself.
	PlumbingPassthrough Plumbing = "passthrough"
)

// validate accepts what can be asked for.
func (p Plumbing) validate() error {
	switch p {
	case PlumbingAuto, PlumbingRedirect, PlumbingBridge:
		return nil
	}
	return fmt.Errorf("netns: option Plumbing is %q: %q, %q or %q is accepted", p, PlumbingAuto, PlumbingRedirect, PlumbingBridge)
}

// exclusive are the kinds of links that receive frames for their own MAC address only: a bridge, which gives them another
// one, would cut the guest off.
func exclusive(kind string) bool {
	switch kind {
	case "macvlan", "macvtap", "vlan":
		return true
	}
	return false
}

// wire lets frames pass between the link of the plugins and the tap, and notes how.
func (l *links) wire(p *plannedNIC, tap int, want Plumbing) error {
	if p.nic.Plumbing == PlumbingDirect {
		return l.strangeMAC(p)
	}
	if want == PlumbingBridge && !exclusive(p.observed.link.Type()) {
		return l.bridge(p, tap)
	}
	err := l.redirect(p, tap)
	if err == nil || want == PlumbingRedirect || exclusive(p.observed.link.Type()) {
		return err
	}
	if bridged := l.bridge(p, tap); bridged != nil {
		return errors.Join(err, bridged)
	}
	return nil
}

// redirect hands frames over in both directions. On an error nothing of it is left.
func (l *links) redirect(p *plannedNIC, tap int) error {
	p.nic.Plumbing = PlumbingRedirect
	link := p.observed.link
	if !bytes.Equal(p.nic.MAC, link.Attrs().HardwareAddr) {
		if err := l.LinkSetHardwareAddr(link, net.HardwareAddr(p.nic.MAC)); err != nil {
			return fmt.Errorf("keep MAC address %s: %w", p.nic.MAC, err)
		}
	}
	if err := l.redirectIngress(tap, link.Attrs().Index); err != nil {
		return err
	}
	err := l.redirectIngress(link.Attrs().Index, tap)
	if err == nil {
		// The guest's multicast groups are not known to the link.
		err = l.LinkSetAllmulticastOn(link)
	}
	if err == nil {
		err = l.LinkSetUp(link)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("redirect: %w", err),
			l.removeFilter(tap, redirectPriority), l.removeFilter(link.Attrs().Index, redirectPriority))
	}
	return nil
}

// strangeMAC takes the MAC address that is the guest's from a link.
func (l *links) strangeMAC(p *plannedNIC) error {
	if err := l.LinkSetHardwareAddr(p.observed.link, randomMAC()); err != nil {
		return fmt.Errorf("change MAC address: %w", err)
	}
	return nil
}
