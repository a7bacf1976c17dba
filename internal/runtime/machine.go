package runtime

import (
	"fmt"

	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// Ids of the disks that each VM has, and names of its files.
const (
	rootDisk = "root"
	seedDisk = "seed"

	rootFile    = "root.qcow2"
	seedFile    = "seed.iso"
	consoleFile = "console.log"
	configFile  = "config.json"
	qemuLog     = "qemu.log"
	debugSocket = "debug.sock"
)

// machineConfig is the machine for a VM: the root disk first, over an image of
// the format, then the pod's
// volumes, the cloud-init disk last; a NIC for each interface of the pod.
func (r *Runtime) machineConfig(v *vm, spec *vmpod.VM, vols *volumes, state *HypervisorState) qemu.Config {
	return qemu.Config{
		Name:        machineName(spec),
		UUID:        spec.UUID,
		Machine:     v.record().Machine,
		Accel:       state.Accel.Accel,
		CPU:         r.cpu(&spec.Settings),
		NUMA:        numaNodes(&spec.Settings),
		VCPUs:       spec.VCPUs,
		MemoryBytes: spec.MemoryBytes, HugePageBytes: spec.HugePageBytes,
		TBSizeMiB: tbSizeMiB,
		NICs:      r.nics(v, state.Accel.Accel),
		Disks:     vols.machineDisks(),
		Shares:    vols.machineShares(),
		Display:   spec.Display,
	}
}

// tbSizeMiB bounds the translation buffer of an emulated VM; it is part of
// QEMU's overhead in the pod's memory limit.
const tbSizeMiB = 64

func machineName(spec *vmpod.VM) string {
	return fmt.Sprintf("%s/%s/%s", spec.Namespace, spec.Name, spec.ContainerName)
}

// nics are the guest's ends of the pod's interfaces, with as many queues as
// their taps have.
func (r *Runtime) nics(v *vm, accel qemu.Accel) []qemu.NIC {
	n := v.pod.network()
	if n == nil {
		return nil
	}
	vhost := r.vhostNet(accel)
	var nics []qemu.NIC
	for i, link := range n.Interfaces() {
		if link.VF != nil {
			nics = append(nics, qemu.NIC{ID: fmt.Sprintf("net%d", i), MAC: link.MAC.String(), Host: link.VF.PCI})
			continue
		}
		nics = append(nics, qemu.NIC{
			ID: fmt.Sprintf("net%d", i), MAC: link.MAC.String(), MTU: link.MTU, Queues: link.Queues, VhostNet: vhost,
		})
	}
	return nics
}
