package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

const domstatsHelp = `Show what a VM has used since its start, under the names that virsh domstats has.

Without flags all groups are shown. Times are in nanoseconds, memory in KiB, and
other sizes in bytes. Under emulation several processors may share a thread.`

// groups are the parts of domstats, in the order of virsh.
var groups = []struct {
	name, usage string
	write       func(w counters, s api.VMStats)
}{
	{"state", "the state", writeState},
	{"cpu-total", "the time of all of QEMU", func(w counters, s api.VMStats) { w.put("cpu.time", s.CPUNanoseconds) }},
	{"balloon", "memory", writeBalloon},
	{"vcpu", "the virtual processors", writeVCPUs},
	{"interface", "the network", writeNICs},
	{"block", "the disks", writeDisks},
}

func newDomstatsCommand(a *access) *cobra.Command {
	wanted := make([]bool, len(groups))
	var f *format
	cmd := a.withPod(&cobra.Command{
		Use: "domstats POD", Short: "Show what a VM has used, as virsh does", Long: domstatsHelp, Args: exactlyOne(podArgument),
		Example: "  PROGRAM domstats my-vm\n  PROGRAM domstats my-vm --vcpu\n  PROGRAM domstats -o json my-vm\n  PROGRAM virsh domstats -- @my-vm --vcpu",
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		s, err := stats(cmd.Context(), p)
		if err != nil {
			return err
		}
		if f.isStructured() {
			return f.structured(cmd.OutOrStdout(), s)
		}
		return printDomstats(cmd.OutOrStdout(), s, wanted)
	})
	for i, g := range groups {
		cmd.Flags().BoolVar(&wanted[i], g.name, false, "show "+g.usage)
	}
	f = formatFlag(cmd, formatText, formatJSON, formatYAML)
	return cmd
}

func stats(ctx context.Context, p *reach.Pod) (s api.VMStats, err error) {
	err = p.Call(ctx, http.MethodGet, p.Path("stats"), nil, &s)
	return s, err
}

// printDomstats writes the groups that are wanted, or all if none is.
func printDomstats(out io.Writer, s api.VMStats, wanted []bool) error {
	every := true
	for _, w := range wanted {
		every = every && !w
	}
	if _, err := fmt.Fprintf(out, "Domain: '%s'\n", domainName(s.VM)); err != nil {
		return err
	}
	for i, g := range groups {
		if every || wanted[i] {
			g.write(counters{out}, s)
		}
	}
	return nil
}

// counters writes names with values.
type counters struct{ out io.Writer }

func (w counters) put(name string, value any) { fmt.Fprintf(w.out, "  %s=%v\n", name, value) }

func writeState(w counters, s api.VMStats) {
	_, number := domainState(s.VM)
	w.put("state.state", number)
	w.put("state.reason", 0)
}

func writeBalloon(w counters, s api.VMStats) {
	w.put("balloon.current", cmp.Or(s.BalloonBytes, s.MemoryBytes)>>10)
	w.put("balloon.maximum", s.MemoryBytes>>10)
	w.put("balloon.rss", s.RSS>>10)
}

func writeVCPUs(w counters, s api.VMStats) {
	w.put("vcpu.current", s.VM.VCPUs)
	w.put("vcpu.maximum", s.VM.VCPUs)
	for _, cpu := range s.VCPUs {
		w.put(fmt.Sprintf("vcpu.%d.state", cpu.Index), 1)
		w.put(fmt.Sprintf("vcpu.%d.time", cpu.Index), cpu.Nanoseconds)
	}
}

func writeNICs(w counters, s api.VMStats) {
	w.put("net.count", len(s.NICs))
	for i, n := range s.NICs {
		w.put(fmt.Sprintf("net.%d.name", i), n.Name)
		for _, c := range []struct {
			name  string
			value uint64
		}{
			{"rx.bytes", n.RxBytes}, {"rx.pkts", n.RxPackets}, {"rx.errs", n.RxErrors}, {"rx.drop", n.RxDropped},
			{"tx.bytes", n.TxBytes}, {"tx.pkts", n.TxPackets}, {"tx.errs", n.TxErrors}, {"tx.drop", n.TxDropped},
		} {
			w.put(fmt.Sprintf("net.%d.%s", i, c.name), c.value)
		}
	}
}

func writeDisks(w counters, s api.VMStats) {
	w.put("block.count", len(s.Disks))
	for i, d := range s.Disks {
		w.put(fmt.Sprintf("block.%d.name", i), d.ID)
		for _, c := range []struct {
			name  string
			value uint64
		}{
			{"rd.reqs", d.ReadRequests}, {"rd.bytes", d.ReadBytes}, {"rd.times", d.ReadNanoseconds},
			{"wr.reqs", d.WriteRequests}, {"wr.bytes", d.WriteBytes}, {"wr.times", d.WriteNanoseconds},
			{"fl.reqs", d.FlushRequests}, {"fl.times", d.FlushNanoseconds},
		} {
			w.put(fmt.Sprintf("block.%d.%s", i, c.name), c.value)
		}
	}
}
