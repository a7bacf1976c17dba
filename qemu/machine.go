package qemu

import (
	"regexp"
	"slices"
	"strings"
)

// addMachineType chooses the machine type.
func addMachineType(b *builder) error {
	if !b.caps.Arch.supported() {
		return bad("arch", string(b.caps.Arch), "a QEMU binary for %s", AMD64)
	}
	m, err := b.caps.machine(b.Machine)
	if err != nil {
		return err
	}
	b.machine = m
	b.inv.Binary, b.inv.Machine = b.caps.Binary, m.Name
	return nil
}

// addMachine sets the machine type and turns off what a pod has no use for.
func addMachine(b *builder) error {
	m := b.machine
	o := options{{m.Name, ""}}
	for _, kv := range b.machineOptions() {
		if slices.Contains(b.caps.MachineOptions, kv.key) {
			o = append(o, kv)
		}
	}
	if len(b.NUMA) == 0 { // whose nodes have memory of their own
		o = append(o, option{"memory-backend", m.RAMID})
	}
	b.opts("-machine", o)
	b.arg("-nodefaults")
	b.arg("-no-user-config")
	b.arg("-display", "none")
	return nil
}

// machineOptions are the parts of the machine that are switched off. A binary
// that lacks one of these options lacks the part too. graphics=off is not among
// them: with it SeaBIOS talks on the serial line, but begins by resetting the
// terminal of whoever looks at the console or at the log.
func (b *builder) machineOptions() options {
	o := options{{"usb", "off"}, {"vmport", "off"}, {"smm", "off"}, {"sata", "off"}, {"smbus", "off"}, {"dump-guest-core", "off"}}
	if b.Accel == KVM {
		// Under TCG a Linux guest without HPET panics: "8254 timer not
		// connected to IO-APIC".
		o = append(o, option{"hpet", "off"})
	}
	return o
}

// machine looks a versioned machine type up; no name means the newest.
func (c Capabilities) machine(name string) (MachineType, error) {
	for _, m := range c.Machines {
		if name == "" || m.Name == name {
			return m, nil
		}
	}
	if name == "" {
		return MachineType{}, c.lacks("any versioned machine type of the family %s", c.Arch.machineFamily())
	}
	var names []string
	for _, m := range c.Machines {
		names = append(names, m.Name)
	}
	return MachineType{}, bad("machine", name, "nothing, or one of %s", strings.Join(names, ", "))
}

var validUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// addIdentity says who the machine is: to people, to whoever looks for the
// process, and to the guest by SMBIOS. Guests recognise the vendor "QEMU".
func addIdentity(b *builder) error {
	if b.Name == "" || !printable(b.Name, 255) {
		return bad("name", b.Name, "1 to 255 bytes of printable text")
	}
	if !validUUID.MatchString(b.UUID) {
		return bad("uuid", b.UUID, "a UUID of 36 characters, lower case")
	}
	b.inv.UUID = b.UUID
	b.opts("-name", options{{"guest", b.Name}, {"debug-threads", "on"}})
	b.arg("-uuid", b.UUID)
	b.opts("-smbios", options{{"type", "1"}, {"manufacturer", "QEMU"}, {"product", "qemulet"}})
	return nil
}

// addPolicy sets how the machine starts, ends and keeps time. It starts paused;
// it stays, paused, when the guest has powered off or panicked, and so can be
// asked why; a guest that reboots keeps its process. The three traces date these
// moments in QEMU's log, also while nobody is connected.
func addPolicy(b *builder) error {
	b.arg("-S")
	b.opts("-boot", options{{"strict", "on"}})
	b.opts("-action", options{{"shutdown", "pause"}, {"reboot", "reset"}, {"panic", "pause"}})
	b.opts("-rtc", options{{"base", "utc"}, {"driftfix", "slew"}})
	// A guest asleep would be neither running nor ended.
	b.arg("-global", "ICH9-LPC.disable_s3=1")
	b.arg("-global", "ICH9-LPC.disable_s4=1")
	if b.Accel == KVM {
		b.arg("-global", "kvm-pit.lost_tick_policy=delay")
	}
	b.opts("-sandbox", options{{"on", ""}, {"obsolete", "deny"}, {"elevateprivileges", "deny"}, {"spawn", "deny"}, {"resourcecontrol", "deny"}})
	b.opts("-msg", options{{"timestamp", "on"}, {"guest-name", "on"}})
	for _, event := range []string{"runstate_set", "qemu_system_shutdown_request", "qemu_system_powerdown_request"} {
		b.opts("-trace", options{{"enable", event}})
	}
	return nil
}
