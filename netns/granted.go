package netns

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// checkDemands refuses a pod whose demands no plugin of the network would even look at.
func (p Pod) checkDemands(list *libcni.NetworkConfigList) error {
	for _, demand := range []struct {
		capability string
		made       bool
	}{{"ips", len(p.IPs) > 0}, {"mac", p.MAC != nil}} {
		able := slices.ContainsFunc(list.Plugins, func(c *libcni.PluginConfig) bool { return c.Network.Capabilities[demand.capability] })
		if demand.made && !able {
			return fmt.Errorf("netns: network %q: %w: the pod asks for %s, and no plugin (%s) declares the capability %q",
				list.Name, ErrNotGranted, p.demand(demand.capability), pluginNames(list), demand.capability)
		}
	}
	return nil
}

// unclaimed returns the capabilities that the pod has arguments for and no plugin takes. DNS and the MAC address are the guest's
// in any case.
func (p Pod) unclaimed(list *libcni.NetworkConfigList) []string {
	var names []string
	for name := range capabilityArgs(p) {
		claimed := slices.ContainsFunc(list.Plugins, func(c *libcni.PluginConfig) bool { return c.Network.Capabilities[name] })
		if !claimed && name != "dns" && name != "mac" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (p Pod) demand(capability string) string {
	if capability == "mac" {
		return p.MAC.String()
	}
	return fmt.Sprint(p.IPs)
}

// checkGranted makes sure that the pod has what it asked for.
func (p Pod) checkGranted(list *libcni.NetworkConfigList, result *types100.Result, nics []*plannedNIC) error {
	refuse := func(wanted, got any) error {
		return fmt.Errorf("netns: network %q (%s): %w: the pod asks for %s and got %s", list.Name, pluginNames(list), ErrNotGranted, wanted, got)
	}
	has := podIPs(result)
	for _, ip := range p.IPs {
		if !slices.Contains(has, addressOf(ip)) {
			return refuse(ip, has)
		}
	}
	if p.MAC == nil {
		return nil
	}
	i := slices.IndexFunc(nics, func(n *plannedNIC) bool { return n.nic.Name == firstInterface })
	if i < 0 || !bytes.Equal(nics[i].nic.MAC, p.MAC) {
		return refuse(p.MAC, "another")
	}
	return nil
}

// addressOf reads an address with or without its prefix.
func addressOf(text string) netip.Addr {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr()
	}
	a, _ := netip.ParseAddr(text)
	return a
}

// keepMACs has the guest's NICs keep the addresses that they had. Only NICs that keep a name can.
func (p Pod) keepMACs(nics []*plannedNIC) {
	for _, n := range nics {
		if mac := p.KeepMACs[n.nic.Name]; mac != nil && p.MAC == nil {
			n.nic.MAC = mac
		}
	}
}
