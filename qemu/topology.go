package qemu

import "fmt"

// maxVCPUs is what a PC can have without interrupt remapping, which has 8 bits
// for an APIC id.
const maxVCPUs = 255

// addTopology sets the number of vCPUs and how they are laid out.
func addTopology(b *builder) error {
	most := min(maxVCPUs, b.machine.MaxCPUs)
	if b.VCPUs < 1 || b.VCPUs > most {
		return bad("vcpus", b.VCPUs, "1 to %d", most)
	}
	t := Topology{Sockets: b.VCPUs, Cores: 1, Threads: 1}
	if b.CPU.Topology != nil {
		t = *b.CPU.Topology
	}
	if !t.makes(b.VCPUs) {
		return bad("cpu.topology", fmt.Sprintf("%d sockets of %d cores of %d threads", t.Sockets, t.Cores, t.Threads),
			"positive numbers whose product is vcpus, %d", b.VCPUs)
	}
	if err := b.checkThreads(t); err != nil {
		return err
	}
	b.opts("-smp", options{{"cpus", fmt.Sprint(b.VCPUs)}, {"sockets", fmt.Sprint(t.Sockets)}, {"cores", fmt.Sprint(t.Cores)}, {"threads", fmt.Sprint(t.Threads)}})
	return nil
}

// makes tells whether the layout holds n processors. The division keeps huge
// factors from overflowing into a match.
func (t Topology) makes(n int) bool {
	if t.Sockets < 1 || t.Cores < 1 || t.Threads < 1 || t.Sockets > n || t.Cores > n || t.Threads > n {
		return false
	}
	return t.Sockets*t.Cores*t.Threads == n
}

// featureThreads is without which a guest takes the threads of an AMD processor
// for cores.
const featureThreads = "topoext"

// hidesThreads tells whether the guest will see threads only by featureThreads.
func (b *builder) hidesThreads() bool {
	vendor := b.guestVendor()
	return b.CPU.Topology != nil && b.CPU.Topology.Threads > 1 && (vendor == vendorAMD || vendor == vendorHygon)
}

// checkThreads refuses a layout that the guest would not see.
func (b *builder) checkThreads(t Topology) error {
	if b.hidesThreads() && b.Accel == TCG && !b.emulates(featureThreads) {
		return bad("cpu.topology.threads", t.Threads, "1: emulated processors of AMD's show no threads; or a model of Intel's, such as Westmere")
	}
	return nil
}
