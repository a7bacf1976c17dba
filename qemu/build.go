package qemu

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// Build turns a Config into an Invocation for the binary that caps describes. It
// is pure: it opens nothing, asks nothing, and gives the same result for the same
// arguments. A field that cannot be is a *ConfigError; something that the binary
// lacks is an error that wraps ErrUnsupported.
func Build(c Config, caps Capabilities) (Invocation, error) {
	b := &builder{Config: c, caps: caps, ids: map[string]string{}, bus: pciBus{}, boot: map[int]string{}}
	for _, add := range []func(*builder) error{
		addMachineType,
		addMachine,
		addIdentity,
		addAccel,
		addCPU,
		addTopology,
		addNUMA,
		addMemory,
		addPolicy,
		addMonitor,
		addConsole,
		addRootPorts,
		addSmallDevices,
		addAgent,
		addDisplay,
		addDisks,
		addNICs,
		addShares,
	} {
		if err := add(b); err != nil {
			return Invocation{}, err
		}
	}
	return b.inv, nil
}

// CheckCPU finds everything that is wrong with a Config's accelerator, processor
// and topology, before anything else of the machine is known. It is pure, and
// what it finds are errors as of Build.
func CheckCPU(c Config, caps Capabilities) []error {
	b := &builder{Config: c, caps: caps}
	if err := addMachineType(b); err != nil {
		return []error{err}
	}
	var all []error
	for _, check := range []func(*builder) error{addAccel, addCPU, addTopology} {
		err := check(b)
		if list, ok := err.(interface{ Unwrap() []error }); ok {
			all = append(all, list.Unwrap()...)
		} else if err != nil {
			all = append(all, err)
		}
	}
	return all
}

// firstFD is the number of the first descriptor handed over, after the standard
// three.
const firstFD = 3

// builder collects an Invocation while the configurators, one per concern, add to
// it in turn.
type builder struct {
	Config
	caps    Capabilities
	machine MachineType
	inv     Invocation
	ids     map[string]string // id -> who has it
	bus     pciBus
	boot    map[int]string // boot index -> who has it
}

// arg adds an option with its value, if it has one.
func (b *builder) arg(option string, value ...string) {
	b.inv.Args = append(append(b.inv.Args, option), value...)
}

// opts adds an option in QEMU's key=value form.
func (b *builder) opts(option string, o options) { b.arg(option, o.String()) }

// json adds an option in QEMU's JSON form.
func (b *builder) json(option string, v any) { b.arg(option, renderJSON(v)) }

func (b *builder) device(v any)   { b.json("-device", v) }
func (b *builder) object(v any)   { b.json("-object", v) }
func (b *builder) blockdev(v any) { b.json("-blockdev", v) }

// socket asks for a listening socket and tells its descriptor's number.
func (b *builder) socket(name string) int {
	fd := b.nextFD()
	b.inv.Sockets = append(b.inv.Sockets, SocketNeed{Name: name, FD: fd})
	return fd
}

// file asks for an open file and tells its descriptor's number.
func (b *builder) file(n FileNeed) int {
	n.FD = b.nextFD()
	b.inv.Files = append(b.inv.Files, n)
	return n.FD
}

// pipe asks for a FIFO and tells the path that QEMU takes its reading end by.
// Both descriptors are in one set, which QEMU keeps while it reads.
func (b *builder) pipe(name string) string {
	n := PipeNeed{Name: name, ReadFD: b.nextFD()}
	n.KeepFD = n.ReadFD + 1
	b.inv.Pipes = append(b.inv.Pipes, n)
	set := fmt.Sprint(n.ReadFD)
	for _, fd := range []int{n.ReadFD, n.KeepFD} {
		b.opts("-add-fd", options{{"fd", fmt.Sprint(fd)}, {"set", set}, {"opaque", name}})
	}
	return "/dev/fdset/" + set
}

// command asks for a QMP command.
func (b *builder) command(execute string, arguments any) {
	b.inv.Commands = append(b.inv.Commands, Command{Execute: execute, Arguments: json.RawMessage(renderJSON(arguments))})
}

func (b *builder) nextFD() int {
	return firstFD + len(b.inv.Sockets) + 2*len(b.inv.Pipes) + len(b.inv.Files)
}

// fdset asks for an open file that QEMU takes in place of one it would open
// itself, and tells the path it goes by. The set has the descriptor's number.
func (b *builder) fdset(n FileNeed) string {
	fd := fmt.Sprint(b.file(n))
	b.opts("-add-fd", options{{"fd", fd}, {"set", fd}, {"opaque", n.Name}})
	return "/dev/fdset/" + fd
}

// claim reserves an id of a device; each is used once.
func (b *builder) claim(id, owner string) error {
	if other, taken := b.ids[id]; taken {
		return bad(owner+".id", id, "an id that is not in use by %s", other)
	}
	b.ids[id] = owner
	return nil
}

// place puts a PCI device on the root bus.
func (b *builder) place(driver, id string, slot, function int) (pciDevice, error) {
	if err := b.need(driver); err != nil {
		return pciDevice{}, err
	}
	return b.bus.at(driver, id, slot, function)
}

// virtio is place for a virtio device.
func (b *builder) virtio(driver, id string, slot, function int) (virtioDevice, error) {
	d, err := b.place(driver, id, slot, function)
	return virtioDevice{pciDevice: d, DisableLegacy: "on"}, err
}

// need refuses a device that the binary does not have.
func (b *builder) need(driver string) error {
	if b.caps.HasDevice(driver) {
		return nil
	}
	return b.caps.lacks("the device %s", driver)
}

// validID is the form of ids given by the caller: block nodes and their children
// are named after them, and QEMU allows 31 bytes to a node's name. Ids of our
// own devices and nodes that derive from one contain a dot, so that they never
// meet one of the caller's.
var validID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

// claimUser checks and reserves an id given by the caller.
func (b *builder) claimUser(id, owner string) error {
	if !validID.MatchString(id) {
		return bad(owner+".id", id, "a letter, then up to 19 letters, digits or dashes, all lower case")
	}
	return b.claim(id, owner)
}
