package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

const inspectHelp = `Show all that is known of a VM: what runs and since when, addresses and counters of
its network, its disks, where its files are on the node, and the exact machine: the
document config.json, in whose vm section is QEMU's whole command line.

For people QEMU's arguments are written one per line; -o json and -o yaml have the
OCI document as it is, in config. Values of Secrets are in none of it.`

const inspectExamples = `  PROGRAM inspect my-vm
  PROGRAM inspect -o json team/my-vm | jq -r '.config.vm.hypervisor.parameters[]'
  PROGRAM inspect -o yaml my-vm`

// nodeDetails is a VM and the node that it is on.
type nodeDetails struct {
	Node string `json:"node"`
	api.VMDetails
}

func newInspectCommand(a *access) *cobra.Command {
	var f *format
	cmd := a.withPod(&cobra.Command{
		Use: "inspect POD", Short: "Show all that is known of a VM", Long: inspectHelp, Example: inspectExamples, Args: exactlyOne(podArgument),
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		d, err := details(cmd.Context(), p)
		if err != nil {
			return err
		}
		if f.isStructured() {
			return f.structured(cmd.OutOrStdout(), nodeDetails{p.Node, d})
		}
		return describe(cmd.OutOrStdout(), p.Node, d)
	})
	f = formatFlag(cmd, formatText, formatJSON, formatYAML)
	return cmd
}

func details(ctx context.Context, p *reach.Pod) (d api.VMDetails, err error) {
	err = p.Call(ctx, http.MethodGet, p.Path(), nil, &d)
	return d, err
}

// machineOf reads the OCI document; it is empty before the first start.
func machineOf(d api.VMDetails) (specs.Spec, error) {
	var spec specs.Spec
	if len(d.Config) == 0 {
		return spec, nil
	}
	if err := json.Unmarshal(d.Config, &spec); err != nil {
		return spec, fmt.Errorf("the machine's OCI document: %w", err)
	}
	return spec, nil
}

// description writes fields for people: a name and its values below each other.
type description struct{ *tabwriter.Writer }

func (w description) field(name string, values ...string) {
	for _, v := range values {
		if v == "" {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\n", name, v)
		name = ""
	}
}

func describe(out io.Writer, node string, d api.VMDetails) error {
	spec, err := machineOf(d)
	if err != nil {
		return err
	}
	w := description{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	w.field("Pod:", d.Namespace+"/"+d.Name)
	w.field("UID:", d.UID)
	w.field("Node:", node)
	describeState(w, d)
	describeMachine(w, d)
	describeDevices(w, d)
	describePlaces(w, d, spec)
	w.field("Without effect:", d.Notes...)
	if err := w.Flush(); err != nil {
		return err
	}
	return describeConfig(out, spec)
}

func describeState(w description, d api.VMDetails) {
	w.field("State:", stateText(d.VM))
	w.field("Message:", d.Message)
	if d.State == api.StateExited {
		w.field("Exit code:", strconv.Itoa(int(d.ExitCode)))
	}
	for _, at := range []struct {
		name string
		time time.Time
	}{{"Created:", d.CreatedAt}, {"Started:", d.StartedAt}, {"Finished:", d.FinishedAt}} {
		if !at.time.IsZero() {
			w.field(at.name, at.time.Local().Format(time.RFC3339)+", "+age(at.time)+" ago")
		}
	}
}

func describeMachine(w description, d api.VMDetails) {
	w.field("Image:", d.Image)
	w.field("Hostname:", d.Hostname)
	if d.VCPUs > 0 {
		w.field("VCPUs:", strconv.Itoa(d.VCPUs))
		w.field("Memory:", mebibytes(d.MemoryBytes))
	}
	w.field("UUID:", d.UUID)
	w.field("Machine:", d.Machine)
	w.field("Addresses:", d.IPs...)
}

func describeDevices(w description, d api.VMDetails) {
	for _, i := range d.Interfaces {
		w.field("Interface "+i.Name+":",
			fmt.Sprintf("MAC %s, MTU %d, %s", i.MAC, i.MTU, cmp.Or(strings.Join(i.Addresses, " "), "no address")),
			fmt.Sprintf("%s, gateways %s", i.Plumbing, cmp.Or(strings.Join(i.Gateways, " "), "none")),
			fmt.Sprintf("received %d bytes in %d packets, %d errors, %d dropped", i.Counters.RxBytes, i.Counters.RxPackets, i.Counters.RxErrors, i.Counters.RxDropped),
			fmt.Sprintf("sent     %d bytes in %d packets, %d errors, %d dropped", i.Counters.TxBytes, i.Counters.TxPackets, i.Counters.TxErrors, i.Counters.TxDropped))
	}
	for _, disk := range d.Disks {
		mode := "read-write"
		if disk.ReadOnly {
			mode = "read-only"
		}
		lines := []string{fmt.Sprintf("%s, %s, %s", disk.File, disk.Format, mode),
			fmt.Sprintf("%s for the guest, %s occupied", size(disk.VirtualSize), size(disk.ActualSize))}
		if disk.Backing != "" {
			lines = append(lines, "over "+disk.Backing)
		}
		w.field("Disk "+disk.ID+":", lines...)
	}
}

func describePlaces(w description, d api.VMDetails, spec specs.Spec) {
	for _, m := range spec.Mounts {
		w.field("Volume:", fmt.Sprintf("%s from %s, %s %s", m.Destination, m.Source, m.Type, strings.Join(m.Options, ",")))
	}
	if d.PID > 0 {
		w.field("PID:", strconv.Itoa(d.PID))
	}
	w.field("Sandbox:", d.SandboxID)
	w.field("Container:", d.ID)
	w.field("Cgroup:", d.CgroupPath)
	w.field("Namespace:", d.NetnsPath)
	w.field("QMP:", d.DebugSocket)
	w.field("Log:", d.LogPath)
}

// describeConfig writes QEMU's command line, an option with its value on a line.
func describeConfig(out io.Writer, spec specs.Spec) error {
	if spec.VM == nil {
		_, err := fmt.Fprintln(out, "\nIt has not been started yet: there is no command line.")
		return err
	}
	fmt.Fprintf(out, "\n%s\n", spec.VM.Hypervisor.Path)
	for i, arg := range spec.VM.Hypervisor.Parameters {
		switch {
		case strings.HasPrefix(arg, "-") && i > 0:
			fmt.Fprintf(out, "\n  %s", arg)
		case strings.HasPrefix(arg, "-"):
			fmt.Fprintf(out, "  %s", arg)
		default:
			fmt.Fprintf(out, " %s", arg)
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}
