package netns

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
)

// InterfaceStats are the counters of one NIC since its tap was made (of a VF, those that its PF has), as the guest would count them: Rx is what came to it.
type InterfaceStats struct {
	Name string `json:"name"` // of the link in the pod's namespace, as in Interface
	MAC  string `json:"mac"`

	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	RxErrors  uint64 `json:"rxErrors"`
	RxDropped uint64 `json:"rxDropped"` // for the guest did not fetch them in time, or does not run
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
	TxErrors  uint64 `json:"txErrors"`
	TxDropped uint64 `json:"txDropped"`
}

// Stats reads the counters of the NICs, in their order. Neither the guest nor its hypervisor is asked. The error matches
// ErrGone when the namespace or a tap is gone.
func (n *Network) Stats(ctx context.Context) ([]InterfaceStats, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	ns, err := openNamespace(n.record.NetnsPath)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	l, err := linksIn(ns)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var all []InterfaceStats
	for _, nic := range n.record.Interfaces {
		if nic.VF != nil {
			s, err := n.m.vfStats(nic)
			if err != nil {
				return nil, fmt.Errorf("netns: interface %s, PCI device %s: %w", nic.Name, nic.VF.PCI, err)
			}
			all = append(all, s)
			continue
		}
		tap, err := l.find(nic.Tap)
		if err != nil {
			return nil, fmt.Errorf("netns: interface %s in %s: %w", nic.Name, n.record.NetnsPath, err)
		}
		all = append(all, statsOf(nic, tap.Attrs().Statistics))
	}
	return all, nil
}

// statsOf turns the tap's counters around: what it receives is what the guest sends.
func statsOf(nic Interface, tap *netlink.LinkStatistics) InterfaceStats {
	s := InterfaceStats{Name: nic.Name, MAC: nic.MAC.String()}
	if tap == nil {
		return s
	}
	s.RxBytes, s.RxPackets, s.RxErrors, s.RxDropped = tap.TxBytes, tap.TxPackets, tap.TxErrors, tap.TxDropped
	s.TxBytes, s.TxPackets, s.TxErrors, s.TxDropped = tap.RxBytes, tap.RxPackets, tap.RxErrors, tap.RxDropped
	return s
}

// vfStats are the counters that the PF has of a VF, which are seen from the VF. Drivers that count nothing say 0.
func (m *Manager) vfStats(nic Interface) (InterfaceStats, error) {
	s := InterfaceStats{Name: nic.Name, MAC: nic.MAC.String()}
	pf, number, err := m.sys.physical(nic.VF.PCI)
	if err != nil {
		return s, err
	}
	vf, err := m.pfs.vf(pf, number)
	s.RxBytes, s.RxPackets, s.RxDropped = vf.RxBytes, vf.RxPackets, vf.RxDropped
	s.TxBytes, s.TxPackets, s.TxDropped = vf.TxBytes, vf.TxPackets, vf.TxDropped
	return s, err
}
