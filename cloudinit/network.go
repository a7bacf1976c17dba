package cloudinit

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"sigs.k8s.io/yaml"
)

// NetworkConfig is the configuration of a guest's interfaces.
type NetworkConfig struct {
	Interfaces []Interface
	// Nameservers and Search hold for all interfaces.
	Nameservers []netip.Addr
	Search      []string
}

// Interface is one network interface, found in the guest by its MAC.
type Interface struct {
	// Name that the guest gives it, up to 15 bytes.
	Name string
	MAC  net.HardwareAddr
	// MTU in bytes; 0 leaves it to the guest.
	MTU int
	// Addresses; none means that the guest uses DHCP.
	Addresses []Address
	Routes    []Route
}

// Address is an address with its network, and the gateway of that network for
// routes that name none; it may be invalid (the zero value).
type Address struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Route to a destination. Without a Gateway, that of an address of the same
// family is used; if there is none, the route cannot be told to cloud-init,
// which knows only routes with a gateway, and is left out.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr
}

func (s Seed) renderNetwork() ([]byte, error) {
	if err := s.Network.check(); err != nil {
		return nil, err
	}
	if s.Type == ConfigDrive {
		return toJSON(s.Network.openStack())
	}
	return yaml.Marshal(s.Network.version1())
}

func (n *NetworkConfig) check() error {
	for i, in := range n.Interfaces {
		switch {
		case in.Name == "" || len(in.Name) > 15:
			return fmt.Errorf("interface %d: name %q: accepted are 1 to 15 bytes", i, in.Name)
		case len(in.MAC) == 0:
			return fmt.Errorf("interface %q has no MAC address", in.Name)
		}
		for _, a := range in.Addresses {
			if !a.Prefix.IsValid() {
				return fmt.Errorf("interface %q has an address that is not valid", in.Name)
			}
		}
		for _, r := range in.Routes {
			if !r.Destination.IsValid() {
				return fmt.Errorf("interface %q has a route without a destination", in.Name)
			}
		}
	}
	return nil
}

// plan gives each address the routes that belong to it, with their gateways:
// those whose gateway is in the address's network, and on the first address of
// the family those whose gateway is in none. A machine has one default route
// per family: the first.
type plan struct {
	haveDefault4, haveDefault6 bool
}

func (p *plan) routes(in Interface) [][]Route {
	byAddress := make([][]Route, len(in.Addresses))
	for _, r := range in.Routes {
		i := in.addressFor(r)
		if i < 0 {
			continue
		}
		if !r.Gateway.IsValid() {
			r.Gateway = in.Addresses[i].Gateway
		}
		if !r.Gateway.IsValid() || p.secondDefault(r.Destination) {
			continue
		}
		byAddress[i] = append(byAddress[i], r)
	}
	return byAddress
}

func (in Interface) addressFor(r Route) int {
	family := func(a Address) bool { return a.Prefix.Addr().Is4() == r.Destination.Addr().Is4() }
	if r.Gateway.IsValid() {
		if i := slices.IndexFunc(in.Addresses, func(a Address) bool { return family(a) && a.Prefix.Contains(r.Gateway) }); i >= 0 {
			return i
		}
		return slices.IndexFunc(in.Addresses, family)
	}
	return slices.IndexFunc(in.Addresses, func(a Address) bool { return family(a) && a.Gateway.IsValid() })
}

func (p *plan) secondDefault(destination netip.Prefix) bool {
	if destination.Bits() != 0 {
		return false
	}
	have := &p.haveDefault4
	if destination.Addr().Is6() {
		have = &p.haveDefault6
	}
	was := *have
	*have = true
	return was
}

// netmask is a prefix's length as a mask in the notation of its family.
func netmask(p netip.Prefix) string {
	return net.IP(net.CIDRMask(p.Bits(), p.Addr().BitLen())).String()
}

func addresses(all []netip.Addr) []string {
	texts := []string{}
	for _, a := range all {
		texts = append(texts, a.String())
	}
	return texts
}
