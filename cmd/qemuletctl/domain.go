package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

// domainName is what virsh's domain is called here: the pod.
func domainName(vm api.VM) string { return vm.Namespace + "/" + vm.Name }

// domainID is the part of the container's id in which VMs differ: the daemon's
// directories are called so too.
func domainID(vm api.VM) string {
	const lead, digits = 8, 12
	if !isActive(vm) || len(vm.ID) < lead+digits {
		return "-"
	}
	return vm.ID[lead : lead+digits]
}

// domainStates are libvirt's words, and the numbers that domstats has
// (virDomainState).
var domainStates = map[api.State]struct {
	word   string
	number int
}{
	api.StateRunning:      {"running", 1},
	api.StateUnresponsive: {"running, does not answer", 1},
	api.StateSuspended:    {"paused", 3},
	api.StateStopping:     {"in shutdown", 4},
	api.StateExited:       {"shut off", 5},
	api.StateCreated:      {"shut off", 5},
	api.StateStarting:     {"shut off", 5},
	api.StateNone:         {"no state", 0},
	api.StateUnknown:      {"no state", 0},
}

func domainState(vm api.VM) (word string, number int) {
	s, ok := domainStates[vm.State]
	if !ok {
		return "paused, " + string(vm.State), 3 // QEMU has stopped the guest, such as for io-error
	}
	return s.word, s.number
}

// isActive tells whether there is a process.
func isActive(vm api.VM) bool {
	switch vm.State {
	case api.StateNone, api.StateCreated, api.StateStarting, api.StateExited:
		return false
	}
	return true
}

const listHelp = `List VMs as virsh list does: those that run, by the names of their pods. From afar
each node has a list of its own.`

func newListCommand(a *access) *cobra.Command {
	var every, names bool
	cmd := a.with(&cobra.Command{
		Use: "list", Short: "List VMs as virsh does", Long: listHelp, Args: cobra.NoArgs,
		Example: "  PROGRAM list\n  PROGRAM list --all\n  PROGRAM virsh list --node worker-3",
	}, func(cmd *cobra.Command, r reach.Reach, _ []string) error {
		all, err := listVMs(cmd.Context(), r, a.namespace())
		if !every {
			all = slices.DeleteFunc(all, func(vm nodeVM) bool { return !isActive(vm.VM) })
		}
		daemons, listErr := r.Daemons(cmd.Context())
		return errors.Join(printDomains(cmd.OutOrStdout(), daemons, all, names), err, listErr)
	})
	cmd.Flags().BoolVar(&every, "all", false, "also VMs that do not run")
	cmd.Flags().BoolVar(&names, "name", false, "only the names")
	return cmd
}

func printDomains(out io.Writer, daemons []*reach.Daemon, all []nodeVM, names bool) error {
	for i, d := range daemons {
		if len(daemons) > 1 && !names {
			fmt.Fprintf(out, "%snode %s:\n", newline(i > 0), d.Node)
		}
		if !names {
			fmt.Fprintf(out, " %-14s %-30s %s\n%s\n", "Id", "Name", "State", "------------------------------------------------------------")
		}
		for _, vm := range all {
			word, _ := domainState(vm.VM)
			switch {
			case vm.Node != d.Node:
			case names:
				fmt.Fprintln(out, domainName(vm.VM))
			default:
				fmt.Fprintf(out, " %-14s %-30s %s\n", domainID(vm.VM), domainName(vm.VM), word)
			}
		}
	}
	return nil
}

func newline(wanted bool) string {
	if wanted {
		return "\n"
	}
	return ""
}

func newDominfoCommand(a *access) *cobra.Command {
	return a.withPod(&cobra.Command{
		Use: "dominfo POD", Short: "Show what a VM is, as virsh does", Args: exactlyOne(podArgument),
		Long:    "Show what a VM is in the manner of virsh dominfo: its state, processors and memory.\nPROGRAM inspect shows more.",
		Example: "  PROGRAM dominfo my-vm\n  PROGRAM virsh dominfo -- @my-vm",
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		d, err := details(cmd.Context(), p)
		if err != nil {
			return err
		}
		s, err := stats(cmd.Context(), p)
		if err != nil && d.ID != "" {
			return err
		}
		return printDominfo(cmd.OutOrStdout(), d, s)
	})
}

func printDominfo(out io.Writer, d api.VMDetails, s api.VMStats) error {
	word, _ := domainState(d.VM)
	w := tabwriter.NewWriter(out, 0, 0, 4, ' ', 0)
	for _, line := range [][2]string{
		{"Id:", domainID(d.VM)},
		{"Name:", domainName(d.VM)},
		{"UUID:", cmp.Or(d.UUID, "-")},
		{"OS Type:", "hvm"},
		{"State:", word},
		{"CPU(s):", fmt.Sprint(d.VCPUs)},
		{"CPU time:", fmt.Sprintf("%.1fs", float64(s.CPUNanoseconds)/1e9)},
		{"Max memory:", fmt.Sprintf("%d KiB", d.MemoryBytes>>10)},
		{"Used memory:", fmt.Sprintf("%d KiB", cmp.Or(s.BalloonBytes, d.MemoryBytes)>>10)},
		{"Persistent:", "no"},
		{"Autostart:", "disable"},
		{"Managed save:", "no"},
		{"Security model:", "none"},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
	}
	return w.Flush()
}
