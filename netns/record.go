package netns

import (
	"fmt"
	"net"
	"net/netip"
)

// Record is everything [Manager.Open] needs to serve a pod's network again after a restart of the daemon. It is plain
// data, made to be stored as JSON.
type Record struct {
	Pod        Pod          `json:"pod"`
	Network    string       `json:"network"`   // name in the CNI configuration
	NetnsPath  string       `json:"netnsPath"` // the pinned namespace
	Interfaces []Interface  `json:"interfaces"`
	IPs        []netip.Addr `json:"ips"` // the pod's address first
	DNS        DNS          `json:"dns,omitzero"`
	// Unclaimed are capabilities, such as "portMappings", that the pod would use and no plugin declares. There are plugins
	// that learn of a pod's ports by themselves.
	Unclaimed []string `json:"unclaimed,omitempty"`
}

// Interface is one NIC of the guest and what stands behind it in the pod's namespace.
type Interface struct {
	// Name is the link's name in the pod's namespace as the plugins made it: "eth0" for the first.
	Name string `json:"name"`
	// Plumbing tells how frames pass between the link and the guest.
	Plumbing Plumbing `json:"plumbing"`
	// Tap and Bridge are links of ours in the pod's namespace; there is a bridge with PlumbingBridge only, with
	// PlumbingDirect the tap is the plugins' link itself, and with PlumbingPassthrough there is neither.
	Tap    string `json:"tap,omitempty"`
	Bridge string `json:"bridge,omitempty"`
	// VF is what the guest has instead of a tap with PlumbingPassthrough, nil otherwise.
	VF *VF `json:"vf,omitempty"`
	// MAC is the guest's address: the one the plugins gave to the link.
	MAC HardwareAddr `json:"mac"`
	// MTU in bytes, of the link, the tap, the bridge and the guest's NIC.
	MTU int `json:"mtu"`
	// Queues is the number of queue pairs the tap was made for; 0 with a VF.
	Queues int `json:"queues"`
	// Addresses are what the guest configures, in the order of the CNI result. The prefix tells what the guest reaches
	// without a router: a single-address prefix where the plugins route even the neighbours (Calico, ptp).
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// Gateways are the next hops of the default routes.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// Routes are what the guest installs besides those that follow from Addresses, in an order in which each next hop
	// is reachable when its route is added.
	Routes []Route `json:"routes,omitempty"`
}

// Route leads to Dst. A zero Gateway means that Dst is on the link.
type Route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// IsDefault reports whether r is a default route.
func (r Route) IsDefault() bool { return r.Dst.Bits() == 0 }

// HardwareAddr is a MAC address that is text in JSON ("0a:58:0a:f4:00:05").
type HardwareAddr net.HardwareAddr

// String returns the usual form in lower case.
func (a HardwareAddr) String() string { return net.HardwareAddr(a).String() }

// MarshalText implements [encoding.TextMarshaler].
func (a HardwareAddr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Only 48-bit addresses are accepted.
func (a *HardwareAddr) UnmarshalText(text []byte) error {
	mac, err := net.ParseMAC(string(text))
	if err != nil || len(mac) != 6 {
		return fmt.Errorf("netns: MAC address %q: six bytes as in 02:00:00:00:00:01 are accepted", text)
	}
	*a = HardwareAddr(mac)
	return nil
}
