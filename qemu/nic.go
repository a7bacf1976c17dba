package qemu

import (
	"fmt"
	"net"
	"regexp"
	"strings"
)

// tapNetdev is the host's half of a NIC: open taps, one per queue.
type tapNetdev struct {
	Type     string `json:"type"`
	ID       string `json:"id"`
	FD       string `json:"fd,omitempty"`
	FDs      string `json:"fds,omitempty"`
	Vhost    bool   `json:"vhost,omitempty"`
	VhostFD  string `json:"vhostfd,omitempty"`
	VhostFDs string `json:"vhostfds,omitempty"`
}

// virtioNIC is the guest's half. Without a romfile there is no boot ROM to load,
// and no firmware that waits for the network.
type virtioNIC struct {
	virtioDevice
	Netdev      string `json:"netdev"`
	MAC         string `json:"mac"`
	HostMTU     int    `json:"host_mtu,omitempty"`
	ROMFile     string `json:"romfile"`
	RxQueueSize int    `json:"rx_queue_size"`
	MultiQueue  bool   `json:"mq,omitempty"`
	Vectors     int    `json:"vectors,omitempty"`
}

// hostNIC is a network card of the host's. Its boot ROM stays out.
type hostNIC struct {
	pciDevice
	Host   string `json:"host"`
	ROMBar int    `json:"rombar"`
}

// hostPCI is the form of a PCI device's address.
var hostPCI = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

// Limits of a NIC.
const (
	maxQueues   = 16
	minMTU      = 68
	maxMTU      = 65535
	rxQueueSize = 1024 // the largest: bursts are not dropped while the guest is not scheduled
)

// addNICs adds the NICs in the guest's order, each in the slot of its number.
func addNICs(b *builder) error {
	for i, n := range b.NICs {
		field := fmt.Sprintf("nics[%d]", i)
		if i >= MaxNICs {
			return bad(field, "NIC number "+fmt.Sprint(i+1), "up to %d NICs", MaxNICs)
		}
		if err := b.checkNIC(field, n); err != nil {
			return err
		}
		if err := b.addNIC(n, slotFirstNIC+i); err != nil {
			return err
		}
	}
	return nil
}

// checkNIC refuses a NIC that cannot be, and reserves its id and address.
func (b *builder) checkNIC(field string, n NIC) error {
	if err := b.claimUser(n.ID, field); err != nil {
		return err
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil || len(mac) != 6 || mac.String() != n.MAC || mac[0]&1 != 0 {
		return bad(field+".mac", n.MAC, "six colon-separated octets in lower case, not a multicast address")
	}
	if n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU) {
		return bad(field+".mtu", n.MTU, "0 for none, or %d to %d", minMTU, maxMTU)
	}
	if n.Queues < 0 || n.Queues > maxQueues {
		return bad(field+".queues", n.Queues, "0 for one, or 1 to %d", maxQueues)
	}
	return checkHostNIC(field, n)
}

// checkHostNIC refuses what only a tap could do.
func checkHostNIC(field string, n NIC) error {
	switch {
	case n.Host == "":
		return nil
	case !hostPCI.MatchString(n.Host):
		return bad(field+".host", n.Host, "a PCI address such as 0000:3b:02.1")
	case n.MTU != 0 || n.Queues != 0 || n.VhostNet:
		return bad(field+".host", n.Host, "no mtu, queues or vhostNet besides, which belong to taps")
	}
	return nil
}

func (b *builder) addNIC(n NIC, slot int) error {
	if n.Host != "" {
		return b.addHostNIC(n, slot)
	}
	dev, err := b.virtio("virtio-net-pci", n.ID, slot, 0)
	if err != nil {
		return err
	}
	queues := max(n.Queues, 1)
	host := b.tap(n, queues)
	guest := virtioNIC{virtioDevice: dev, Netdev: host.ID, MAC: n.MAC, HostMTU: n.MTU, RxQueueSize: rxQueueSize}
	if queues > 1 {
		// A vector for each direction of each queue, for the control queue
		// and for changes of configuration.
		guest.MultiQueue, guest.Vectors = true, 2*queues+2
	}
	b.json("-netdev", host)
	b.device(guest)
	return nil
}

func (b *builder) addHostNIC(n NIC, slot int) error {
	dev, err := b.place("vfio-pci", n.ID, slot, 0)
	if err != nil {
		return err
	}
	b.device(hostNIC{pciDevice: dev, Host: n.Host})
	return nil
}

// tap asks for the descriptors of a NIC. QEMU takes one by another name than many.
func (b *builder) tap(n NIC, queues int) tapNetdev {
	t := tapNetdev{Type: "tap", ID: n.ID + ".tap", Vhost: n.VhostNet}
	taps := b.queueFDs("tap", n.ID, queues)
	if queues == 1 {
		t.FD = taps
	} else {
		t.FDs = taps
	}
	if !n.VhostNet {
		return t
	}
	if vhosts := b.queueFDs("vhost", n.ID, queues); queues == 1 {
		t.VhostFD = vhosts
	} else {
		t.VhostFDs = vhosts
	}
	return t
}

// queueFDs asks for one descriptor per queue and lists their numbers as QEMU
// reads them.
func (b *builder) queueFDs(kind, id string, queues int) string {
	fds := make([]string, queues)
	for q := range fds {
		fds[q] = fmt.Sprint(b.file(FileNeed{Name: fmt.Sprintf("%s:%s:%d", kind, id, q), Writable: true}))
	}
	return strings.Join(fds, ":")
}
