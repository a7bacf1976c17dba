package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

// nodeVM is a VM and the node that it is on.
type nodeVM struct {
	Node string `json:"node"`
	api.VM
}

const psHelp = `List the VM pods: of this node, or through the API server those of all nodes.

Other than kubectl get pods it lists what is on the nodes, and whether the guests
run: running, suspended, stopping, exited with its reason, or unresponsive when QEMU
does not answer. All namespaces are listed, unless --namespace names one.`

const psExamples = `  PROGRAM ps
  PROGRAM ps -n team -o wide
  PROGRAM ps --node worker-3
  PROGRAM ps -o json | jq -r '.[] | select(.state != "running") | .name'`

func newPsCommand(a *access) *cobra.Command {
	var f *format
	cmd := a.with(&cobra.Command{
		Use: "ps", Short: "List the VM pods", Long: psHelp, Example: psExamples, Args: cobra.NoArgs,
	}, func(cmd *cobra.Command, r reach.Reach, _ []string) error {
		all, err := listVMs(cmd.Context(), r, a.namespace())
		if f.isStructured() {
			return errors.Join(f.structured(cmd.OutOrStdout(), all), err)
		}
		return errors.Join(printVMs(cmd.OutOrStdout(), all, f.value == formatWide), err)
	})
	f = formatFlag(cmd, formatText, formatWide, formatJSON, formatYAML)
	return cmd
}

// atOnce is how many nodes are asked at once.
const atOnce = 32

// everyNode asks all daemons side by side. What was answered is returned in the order
// of the nodes, also when others failed.
func everyNode[T any](ctx context.Context, r reach.Reach, ask func(context.Context, *reach.Daemon) (T, error)) ([]T, []*reach.Daemon, error) {
	daemons, err := r.Daemons(ctx)
	if err != nil {
		return nil, nil, err
	}
	answers, errs := make([]T, len(daemons)), make([]error, len(daemons))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, d := range daemons {
		g.Go(func() error {
			answers[i], errs[i] = ask(ctx, d)
			return nil
		})
	}
	_ = g.Wait() // the errors are kept by node
	var good []T
	var of []*reach.Daemon
	for i, err := range errs {
		if err == nil {
			good, of = append(good, answers[i]), append(of, daemons[i])
		}
	}
	return good, of, errors.Join(errs...)
}

func listVMs(ctx context.Context, r reach.Reach, namespace string) ([]nodeVM, error) {
	lists, nodes, err := everyNode(ctx, r, func(ctx context.Context, d *reach.Daemon) (vms []api.VM, err error) {
		err = d.Call(ctx, http.MethodGet, api.VMsPath, nil, &vms)
		return vms, err
	})
	all := []nodeVM{}
	for i, vms := range lists {
		for _, vm := range vms {
			if namespace == "" || vm.Namespace == namespace {
				all = append(all, nodeVM{nodes[i].Node, vm})
			}
		}
	}
	return all, err
}

func printVMs(out io.Writer, all []nodeVM, wide bool) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "there are no VM pods")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := []string{"NAMESPACE", "POD", "NODE", "STATE", "VCPUS", "MEMORY", "IP", "AGE"}
	if wide {
		head = append(head, "IMAGE", "ATTEMPT", "ID")
	}
	fmt.Fprintln(w, strings.Join(head, "\t"))
	for _, vm := range all {
		fmt.Fprintln(w, strings.Join(row(vm, wide), "\t"))
	}
	return w.Flush()
}

func row(vm nodeVM, wide bool) []string {
	cells := []string{vm.Namespace, vm.Name, vm.Node, stateText(vm.VM), "-", "-", cmp.Or(strings.Join(vm.IPs, ","), "-"), age(vm.CreatedAt)}
	if vm.VCPUs > 0 {
		cells[4], cells[5] = strconv.Itoa(vm.VCPUs), mebibytes(vm.MemoryBytes)
	}
	if wide {
		cells = append(cells, cmp.Or(vm.Image, "-"), strconv.Itoa(int(vm.Attempt)), cmp.Or(vm.ID[:min(20, len(vm.ID))], "-"))
	}
	return cells
}

func stateText(vm api.VM) string {
	if vm.State == api.StateExited {
		return fmt.Sprintf("exited (%s)", vm.Reason)
	}
	return string(vm.State)
}
