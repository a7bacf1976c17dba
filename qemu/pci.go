package qemu

import "fmt"

// Where everything sits on pcie.0. A guest names its interfaces and disks by
// these addresses, so that they are fixed for good: no slot depends on how many
// devices of another kind there are. What cannot be unplugged sits directly on
// the root bus, where a guest cannot eject it; what is plugged later goes behind
// one of the empty root ports.
//
//	00      host bridge
//	01.0-3  spare root ports rp0..rp3
//	01.4    virtio-serial
//	01.5    VGA card, if there is one (01.6-7 are free)
//	02.0-3  balloon, rng, pvpanic, SCSI controller
//	02.4-7  root ports of shares, eight shares each, if there are any
//	03-09   NICs 0..6
//	0a-1e   virtio disks 0..20
//	1f      LPC bridge, part of the machine
const (
	slotRootPorts  = 0x01
	slotSmall      = 0x02
	slotFirstNIC   = 0x03
	slotFirstDisk  = 0x0a
	slotLPC        = 0x1f
	sparePorts     = 4
	maxVirtioDisks = slotLPC - slotFirstDisk
)

// Functions of slotRootPorts behind the root ports.
const (
	fnSerialBus = sparePorts + iota
	fnDisplay
)

// MaxNICs is how many NICs a machine can have.
const MaxNICs = slotFirstDisk - slotFirstNIC

// Functions of slotSmall.
const (
	fnBalloon = iota
	fnRNG
	fnPanic
	fnSCSI
	fnShares
	maxSharePorts = 4
)

// RootPorts are the ids of the root ports kept empty for hotplug.
func RootPorts() []string {
	ports := make([]string, sparePorts)
	for i := range ports {
		ports[i] = fmt.Sprintf("rp%d", i)
	}
	return ports
}

// device is what all devices have in common.
type device struct {
	Driver string `json:"driver"`
	ID     string `json:"id"`
}

// pciDevice is a device at a fixed place of the root bus.
type pciDevice struct {
	device
	Bus           string `json:"bus"`
	Addr          string `json:"addr"`
	Multifunction bool   `json:"multifunction,omitempty"`
}

// virtioDevice is a modern virtio device: without the legacy interface it takes
// no I/O ports.
type virtioDevice struct {
	pciDevice
	DisableLegacy string `json:"disable-legacy"`
}

// rootPort is an empty PCI Express slot.
type rootPort struct {
	pciDevice
	Chassis int `json:"chassis"`
	Port    int `json:"port"`
}

// pciBus knows who sits where on pcie.0.
type pciBus map[string]string

// at places a device; two at one address are a mistake of ours, and an error.
func (p pciBus) at(driver, id string, slot, function int) (pciDevice, error) {
	addr := fmt.Sprintf("%02x.%x", slot, function)
	if other, taken := p[addr]; taken {
		return pciDevice{}, fmt.Errorf("qemu: PCI address %s of %s is taken by %s", addr, id, other)
	}
	p[addr] = id
	return pciDevice{device: device{driver, id}, Bus: "pcie.0", Addr: addr}, nil
}

// addRootPorts keeps PCI Express slots for what is plugged while the guest runs:
// the root bus itself does not take devices then.
func addRootPorts(b *builder) error {
	for i, id := range RootPorts() {
		if err := b.claim(id, "a root port"); err != nil {
			return err
		}
		d, err := b.place("pcie-root-port", id, slotRootPorts, i)
		if err != nil {
			return err
		}
		d.Multifunction = i == 0
		b.device(rootPort{pciDevice: d, Chassis: i + 1, Port: i})
	}
	return nil
}
