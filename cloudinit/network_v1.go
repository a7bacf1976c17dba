package cloudinit

// cloud-init's "Networking config Version 1". IPv4 has netmasks, as all
// versions of cloud-init and the guests that imitate it read them; IPv6 has
// prefix lengths.

type v1Config struct {
	Version int   `json:"version"`
	Config  []any `json:"config"`
}

type v1Physical struct {
	Type    string     `json:"type"`
	Name    string     `json:"name"`
	MAC     string     `json:"mac_address"`
	MTU     int        `json:"mtu,omitempty"`
	Subnets []v1Subnet `json:"subnets,omitempty"`
}

type v1Subnet struct {
	Type    string    `json:"type"`
	Address string    `json:"address,omitempty"`
	Netmask string    `json:"netmask,omitempty"`
	Routes  []v1Route `json:"routes,omitempty"`
}

type v1Route struct {
	Network string `json:"network"`
	Netmask string `json:"netmask,omitempty"`
	Gateway string `json:"gateway"`
}

type v1Nameserver struct {
	Type    string   `json:"type"`
	Address []string `json:"address"`
	Search  []string `json:"search,omitempty"`
}

func (n *NetworkConfig) version1() v1Config {
	c := v1Config{Version: 1, Config: []any{}}
	var p plan
	for _, in := range n.Interfaces {
		c.Config = append(c.Config, v1Physical{
			Type:    "physical",
			Name:    in.Name,
			MAC:     in.MAC.String(),
			MTU:     in.MTU,
			Subnets: in.v1Subnets(p.routes(in)),
		})
	}
	if len(n.Nameservers) > 0 {
		c.Config = append(c.Config, v1Nameserver{Type: "nameserver", Address: addresses(n.Nameservers), Search: n.Search})
	}
	return c
}

func (in Interface) v1Subnets(routes [][]Route) []v1Subnet {
	var subnets []v1Subnet
	for _, family := range []struct {
		v4  bool
		how string
	}{{true, "dhcp"}, {false, "dhcp6"}} {
		if in.asks(family.v4) {
			subnets = append(subnets, v1Subnet{Type: family.how})
		}
	}
	for _, i := range in.statics() {
		subnets = append(subnets, in.Addresses[i].v1(routes[i]))
	}
	return subnets
}

func (a Address) v1(routes []Route) v1Subnet {
	s := v1Subnet{Type: "static6", Address: a.Prefix.String()}
	if is4(a.Prefix) {
		s = v1Subnet{Type: "static", Address: a.Prefix.Addr().String(), Netmask: netmask(a.Prefix)}
	}
	for _, r := range routes {
		s.Routes = append(s.Routes, r.v1())
	}
	return s
}

func (r Route) v1() v1Route {
	d := r.Destination.Masked()
	if d.Addr().Is4() {
		return v1Route{Network: d.Addr().String(), Netmask: netmask(d), Gateway: r.Gateway.String()}
	}
	return v1Route{Network: d.String(), Gateway: r.Gateway.String()}
}
