package cloudinit

import "fmt"

// OpenStack's network_data.json (its "Metadata service" page): addresses and
// masks apart in both families, one service per name server. OpenStack has no
// place for search domains; cloud-init reads them from a service.

type osNetworkData struct {
	Links    []osLink    `json:"links"`
	Networks []osNetwork `json:"networks"`
	Services []osService `json:"services"`
}

type osLink struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	MAC  string `json:"ethernet_mac_address"`
	MTU  int    `json:"mtu,omitempty"`
}

type osNetwork struct {
	ID        string    `json:"id"`
	NetworkID string    `json:"network_id"`
	Type      string    `json:"type"`
	Link      string    `json:"link"`
	Address   string    `json:"ip_address,omitempty"`
	Netmask   string    `json:"netmask,omitempty"`
	Routes    []osRoute `json:"routes"`
}

type osRoute struct {
	Network string `json:"network"`
	Netmask string `json:"netmask"`
	Gateway string `json:"gateway"`
}

type osService struct {
	Type    string   `json:"type"`
	Address string   `json:"address"`
	Search  []string `json:"search,omitempty"`
}

func (n *NetworkConfig) openStack() osNetworkData {
	d := osNetworkData{Links: []osLink{}, Networks: []osNetwork{}, Services: []osService{}}
	var p plan
	for _, in := range n.Interfaces {
		d.Links = append(d.Links, osLink{ID: in.Name, Type: "phy", MAC: in.MAC.String(), MTU: in.MTU})
		for _, network := range in.osNetworks(p.routes(in)) {
			network.ID = fmt.Sprintf("net-%d", len(d.Networks))
			network.NetworkID, network.Link = network.ID, in.Name
			d.Networks = append(d.Networks, network)
		}
	}
	for i, a := range n.Nameservers {
		s := osService{Type: "dns", Address: a.String()}
		if i == 0 {
			s.Search = n.Search
		}
		d.Services = append(d.Services, s)
	}
	return d
}

func (in Interface) osNetworks(routes [][]Route) []osNetwork {
	var networks []osNetwork
	for _, family := range []struct {
		v4  bool
		how string
	}{{true, "ipv4_dhcp"}, {false, "ipv6_dhcpv6-stateful"}} {
		if in.asks(family.v4) {
			networks = append(networks, osNetwork{Type: family.how, Routes: []osRoute{}})
		}
	}
	for _, i := range in.statics() {
		networks = append(networks, in.Addresses[i].openStack(routes[i]))
	}
	return networks
}

func (a Address) openStack(routes []Route) osNetwork {
	network := osNetwork{Type: "ipv6", Address: a.Prefix.Addr().String(), Netmask: netmask(a.Prefix), Routes: []osRoute{}}
	if is4(a.Prefix) {
		network.Type = "ipv4"
	}
	for _, r := range routes {
		d := r.Destination.Masked()
		network.Routes = append(network.Routes, osRoute{d.Addr().String(), netmask(d), r.Gateway.String()})
	}
	return network
}
