package qemu

// serialBus is a virtio-serial controller.
type serialBus struct {
	virtioDevice
	MaxPorts int `json:"max_ports"`
}

// serialChannel is a named port of it.
type serialChannel struct {
	device
	Bus     string `json:"bus"`
	Nr      int    `json:"nr"`
	Chardev string `json:"chardev"`
	Name    string `json:"name"`
}

const (
	idSerialBus = "vserial.0"
	// AgentChardev is the id of the character device behind the guest agent's
	// port: query-chardev tells whether the guest has opened it.
	AgentChardev = "agent"
	// agentPort is the name by which the agent finds its port in a guest.
	agentPort = "org.qemu.guest_agent.0"
)

// SocketAgent leads to the guest agent, if the guest runs one.
const SocketAgent = "agent"

// addAgent gives the guest the port on which a guest agent listens. Port 0 of
// a controller is reserved for a console.
func addAgent(b *builder) error {
	d, err := b.virtio("virtio-serial-pci", idSerialBus, slotRootPorts, fnSerialBus)
	if err != nil {
		return err
	}
	if err := b.need("virtserialport"); err != nil {
		return err
	}
	b.opts("-chardev", listener(AgentChardev, b.socket(SocketAgent)))
	b.device(serialBus{virtioDevice: d, MaxPorts: 2})
	b.device(serialChannel{device: device{"virtserialport", "agent.0"}, Bus: idSerialBus + ".0", Nr: 1, Chardev: AgentChardev, Name: agentPort})
	return nil
}
