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
	// Addresses; none means that the guest sets the interface up and gives it none.
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
// family is used. cloud-init cannot be told of routes without any gateway, nor
// of gateways outside the networks of the interface's addresses, such as
// Calico's 169.254.1.1: it is told to use DHCP for that family instead, which
// can say both.
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

// routes returns the routes of each address, those that can be told.
func (p *plan) routes(in Interface) [][]Route {
	byAddress := make([][]Route, len(in.Addresses))
	for _, r := range in.Routes {
		i := in.addressFor(r)
		if i < 0 {
			continue
		}
		if r = in.complete(r); p.secondDefault(r.Destination) || in.asks(is4(r.Destination)) {
			continue
		}
		byAddress[i] = append(byAddress[i], r)
	}
	return byAddress
}

// complete gives a route the gateway of its address, if it has none itself.
func (in Interface) complete(r Route) Route {
	if i := in.addressFor(r); i >= 0 && !r.Gateway.IsValid() {
		r.Gateway = in.Addresses[i].Gateway
	}
	return r
}

// asks tells whether the guest is to use DHCP for a family: its routes cannot
// be told otherwise.
func (in Interface) asks(v4 bool) bool {
	addressed := slices.ContainsFunc(in.Addresses, func(a Address) bool { return is4(a.Prefix) == v4 })
	return addressed && slices.ContainsFunc(in.Routes, func(r Route) bool {
		return is4(r.Destination) == v4 && !in.reaches(in.complete(r).Gateway)
	})
}

// reaches tells whether a gateway is in the network of an address.
func (in Interface) reaches(gateway netip.Addr) bool {
	if gateway.Is6() && gateway.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(in.Addresses, func(a Address) bool { return !a.Prefix.IsSingleIP() && a.Prefix.Contains(gateway) })
}

// statics are the addresses that are told, and not asked for by DHCP, by their
// index. DHCPv4 gives the first address only.
func (in Interface) statics() []int {
	var all []int
	seen4 := false
	for i, a := range in.Addresses {
		v4 := is4(a.Prefix)
		if !in.asks(v4) || v4 && seen4 {
			all = append(all, i)
		}
		seen4 = seen4 || v4
	}
	return all
}

func is4(p netip.Prefix) bool { return p.Addr().Is4() }

func (in Interface) addressFor(r Route) int {
	family := func(a Address) bool { return is4(a.Prefix) == is4(r.Destination) }
	if r.Gateway.IsValid() {
		if i := slices.IndexFunc(in.Addresses, func(a Address) bool { return family(a) && a.Prefix.Contains(r.Gateway) }); i >= 0 {
			return i
		}
		return slices.IndexFunc(in.Addresses, family)
	}
	if i := slices.IndexFunc(in.Addresses, func(a Address) bool { return family(a) && a.Gateway.IsValid() }); i >= 0 {
		return i
	}
	return slices.IndexFunc(in.Addresses, family)
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
