package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/utils"
)

// MaxQueues is the largest number of queue pairs of one tap (the kernel allows more; no virtio NIC here needs them).
const MaxQueues = 8

// Pod is what is known of a pod before it has a network.
type Pod struct {
	// ID is the CNI container id: the id of the pod's sandbox.
	ID string `json:"id"`
	// Name, Namespace and UID are passed to the plugins as K8S_POD_NAME, K8S_POD_NAMESPACE and K8S_POD_UID.
	Name      string `json:"name,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid,omitempty"`
	// NetnsName is the file name of the namespace under Options.NetnsDir; it begins with [Prefix].
	NetnsName string `json:"netnsName"`

	// Hostname goes to the guest by DHCP (option 12). Empty: none is sent.
	Hostname string `json:"hostname,omitempty"`
	// DNS goes to the guest by DHCP and to plugins that take it. When it is zero, the DNS of the CNI result is used.
	DNS DNS `json:"dns,omitzero"`

	// PortMappings are handed to plugins with the capability "portMappings".
	PortMappings []PortMapping `json:"portMappings,omitempty"`
	// Capabilities are further capability arguments by name ("bandwidth", "ips", "mac", ...), each in the form the
	// plugins document. They go to those plugins only that declare the capability.
	Capabilities map[string]any `json:"capabilities,omitempty"`

	// IPs are addresses that the pod is to have, each with or without its prefix, and MAC is the address that its first link
	// is to have. Setup fails with ErrNotGranted unless a plugin declares the capability "ips" or "mac" and grants it.
	IPs []string     `json:"ips,omitempty"`
	MAC HardwareAddr `json:"mac,omitempty"`
	// KeepMACs are the addresses that the guest's NICs had before, by the names of the links, as after a reboot of the node.
	// Plugins with the capability "mac" are asked for the first link's; links that come with others are given these.
	KeepMACs map[string]HardwareAddr `json:"keepMACs,omitempty"`

	// Queues is the number of queue pairs each tap is made for; 0 means 1.
	Queues int `json:"queues,omitempty"`
}

// DNS is a resolver configuration.
type DNS struct {
	Servers  []netip.Addr `json:"servers,omitempty"`
	Searches []string     `json:"searches,omitempty"`
	Options  []string     `json:"options,omitempty"`
}

// IsZero reports whether nothing is configured.
func (d DNS) IsZero() bool {
	return len(d.Servers) == 0 && len(d.Searches) == 0 && len(d.Options) == 0
}

// PortMapping forwards a port of the node to the pod. Protocol is "tcp", "udp" or "sctp" in any case; empty means tcp.
type PortMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

func (p Pod) validate() error {
	if err := validateID(p.ID); err != nil {
		return err
	}
	if err := validateNetnsName(p.NetnsName); err != nil {
		return err
	}
	if p.Queues < 0 || p.Queues > MaxQueues {
		return fmt.Errorf("netns: pod %s: queues is %d: 0 to %d are accepted", p.ID, p.Queues, MaxQueues)
	}
	return nil
}

func validateID(id string) error {
	if cniErr := utils.ValidateContainerID(id); cniErr != nil {
		return fmt.Errorf("netns: pod id %q: letters, digits, '_', '.' and '-' are accepted, a letter or digit first", id)
	}
	return nil
}

func validateNetnsName(name string) error {
	if !strings.HasPrefix(name, Prefix) || len(name) == len(Prefix) || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("netns: namespace name %q: %q and a name without '/' are accepted", name, Prefix)
	}
	return nil
}

func (p Pod) queues() int { return max(p.Queues, 1) }

// errNoPod is returned for a Pod that names neither an attachment nor a namespace.
var errNoPod = errors.New("netns: pod has neither an id nor a namespace name")
