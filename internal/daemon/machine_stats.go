package daemon

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

// Stats implements api.Machines.
func (m machines) Stats(ctx context.Context, namespace, name string) (api.VMStats, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	look, err := m.findVM(ctx, namespace, name)
	if err != nil {
		return api.VMStats{}, err
	}
	used, err := m.Runtime.Stats(look.Container.ID)
	if err != nil {
		return api.VMStats{}, err
	}
	s := api.VMStats{
		VM: vmOf(look), Time: used.Time, CPUNanoseconds: uint64(used.Usage.CPU), Memory: used.Usage.Memory,
		WorkingSet: used.Usage.WorkingSet, RSS: used.Usage.RSS, DiskBytes: used.DiskBytes,
		VCPUs: []api.VCPUStats{}, Disks: []api.DiskStats{}, NICs: []api.NICStats{},
	}
	nics, _ := m.NetworkStats(ctx, look.Sandbox.ID) // none of a network that is gone
	for _, nic := range nics {
		s.NICs = append(s.NICs, nicOf(nic))
	}
	// A QEMU that hangs is seen in the state; the rest is told all the same.
	answers, _ := m.Ask(ctx, look.Container.ID)
	addAnswers(&s, answers)
	return s, nil
}

func addAnswers(s *api.VMStats, a runtime.Answers) {
	s.BalloonBytes = a.BalloonBytes
	for _, cpu := range a.CPUs {
		s.VCPUs = append(s.VCPUs, api.VCPUStats{Index: cpu.Index, ThreadID: cpu.ThreadID, Nanoseconds: threadTime(cpu.ThreadID)})
	}
	for _, d := range a.DiskStats {
		s.Disks = append(s.Disks, api.DiskStats{
			ID:           deviceID(d.QDev),
			ReadRequests: d.Stats.ReadOperations, ReadBytes: d.Stats.ReadBytes, ReadNanoseconds: d.Stats.ReadTimeNS,
			WriteRequests: d.Stats.WriteOperations, WriteBytes: d.Stats.WriteBytes, WriteNanoseconds: d.Stats.WriteTimeNS,
			FlushRequests: d.Stats.FlushOperations, FlushNanoseconds: d.Stats.FlushTimeNS,
		})
	}
}

// threadTime is the processor time of a thread, from /proc/<tid>/schedstat, whose
// first number are nanoseconds; 0 if the thread is gone.
func threadTime(tid int) uint64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", tid))
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(raw, []byte(" "))
	n, _ := strconv.ParseUint(string(first), 10, 64)
	return n
}

// deviceID is the id in a path of QOM such as /machine/peripheral/root/virtio-backend.
func deviceID(qdev string) string {
	_, rest, ok := strings.Cut(qdev, "/peripheral/")
	if !ok {
		return qdev
	}
	id, _, _ := strings.Cut(rest, "/")
	return id
}

func disksOf(a runtime.Answers) (all []api.Disk) {
	for _, d := range a.Disks {
		if d.Inserted == nil {
			continue
		}
		id, image := deviceID(d.QDev), d.Inserted.Image
		disk := api.Disk{
			ID: id, File: cmp.Or(a.Files[qemu.DiskFile(id)], d.Inserted.File), Format: image.Format, ReadOnly: d.Inserted.ReadOnly,
			VirtualSize: image.VirtualSize, ActualSize: image.ActualSize, IOStatus: d.IOStatus,
		}
		if image.Backing != nil {
			disk.Backing = cmp.Or(a.Files[qemu.BackingFile(id, 0)], image.Backing.Filename)
		}
		all = append(all, disk)
	}
	return all
}

func nicOf(s runtime.NICStats) api.NICStats {
	return api.NICStats{
		Name: s.Name, RxBytes: s.RxBytes, RxPackets: s.RxPackets, RxErrors: s.RxErrors, RxDropped: s.RxDropped,
		TxBytes: s.TxBytes, TxPackets: s.TxPackets, TxErrors: s.TxErrors, TxDropped: s.TxDropped,
	}
}

func interfaceOf(link netns.Interface, counters api.NICStats) api.Interface {
	i := api.Interface{
		Name: link.Name, MAC: link.MAC.String(), MTU: link.MTU, Plumbing: string(link.Plumbing), Tap: link.Tap,
		Addresses: []string{}, Gateways: []string{}, Counters: counters,
	}
	for _, a := range link.Addresses {
		i.Addresses = append(i.Addresses, a.String())
	}
	for _, g := range link.Gateways {
		i.Gateways = append(i.Gateways, g.String())
	}
	return i
}
