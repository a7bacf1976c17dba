package netns

import (
	"bytes"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
)

// physicalFunctions are the links of the node's SR-IOV cards, by which the VFs are administered (ip-link(8), "vf").
type physicalFunctions interface {
	// vf returns what the link pf knows of its VF of that number.
	vf(pf string, number int) (netlink.VfInfo, error)
	// set changes what differs from it.
	set(pf string, number int, want vfState) error
}

// hostPFs are those in this process's network namespace.
type hostPFs struct{}

func (hostPFs) vf(pf string, number int) (netlink.VfInfo, error) {
	l, err := openLinks()
	if err != nil {
		return netlink.VfInfo{}, err
	}
	defer l.Close()
	_, info, err := l.vf(pf, number)
	return info, err
}

func (l *links) vf(pf string, number int) (netlink.Link, netlink.VfInfo, error) {
	link, err := l.find(pf)
	if err != nil {
		return nil, netlink.VfInfo{}, err
	}
	vfs := link.Attrs().Vfs
	i := slices.IndexFunc(vfs, func(v netlink.VfInfo) bool { return v.ID == number })
	if i < 0 {
		return nil, netlink.VfInfo{}, fmt.Errorf("link %s has no VF %d", pf, number)
	}
	return link, vfs[i], nil
}

func (hostPFs) set(pf string, number int, want vfState) error {
	l, err := openLinks()
	if err != nil {
		return err
	}
	defer l.Close()
	link, info, err := l.vf(pf, number)
	if err != nil {
		return err
	}
	if !bytes.Equal(info.Mac, want.MAC) {
		if err := l.LinkSetVfHardwareAddr(link, number, net.HardwareAddr(want.MAC)); err != nil {
			return fmt.Errorf("set MAC address %s of VF %d of %s: %w", want.MAC, number, pf, err)
		}
	}
	if info.Vlan != want.VLAN || info.Qos != want.QoS {
		if err := l.LinkSetVfVlanQos(link, number, want.VLAN, want.QoS); err != nil {
			return fmt.Errorf("set VLAN %d of VF %d of %s: %w", want.VLAN, number, pf, err)
		}
	}
	return nil
}
