package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

// verb is a command that does something with a VM.
type verb struct {
	api.Verb
	short, long string
	// done is what is said after it, with the pod and its state.
	done string
}

var verbs = []verb{
	{api.Shutdown, "Press the power button of a VM", `Press the power button of a VM (ACPI), once, and do not wait. A guest that is
suspended is resumed, to be able to obey.

When the guest has powered off, its container has exited with the reason Completed
and the code 0. What follows is the pod's restartPolicy: with Always, the default,
kubelet boots the VM again from its own disk. To be rid of the VM delete the pod.`,
		"%s: the power button was pressed"},
	{api.Destroy, "End a VM at once", `End a VM at once, as pulling its plug would, and wait until it has ended.

Its container has then exited with the reason Error, the code 137 and a message that
says so. Its disk stays: what follows is the pod's restartPolicy; with Always, the
default, kubelet boots the VM again. To be rid of it delete the pod.`,
		"%s: ended by force"},
	{api.Reset, "Press the reset button of a VM", `Press the reset button of a VM: it boots again at once, with the same QEMU. For
kubelet nothing happens. A guest that is suspended is resumed.`,
		"%s: reset"},
	{api.Suspend, "Stop the processors of a VM", `Stop the processors of a VM, until it is resumed. Its memory stays where it is.

For kubelet the VM still runs, and a restart of the daemon does not resume it. But
nothing in the guest answers: a liveness probe fails, and kubelet restarts the VM.`,
		"%s: suspended"},
	{api.Resume, "Let a suspended VM go on", `Let a suspended VM go on. One that runs is left alone.`,
		"%s: resumed"},
}

func newVerbCommand(a *access, v verb) *cobra.Command {
	return a.withPod(&cobra.Command{
		Use: string(v.Verb) + " POD", Short: v.short, Long: v.long,
		Example: fmt.Sprintf("  PROGRAM %[1]s my-vm\n  PROGRAM %[1]s -n team my-vm\n  PROGRAM virsh %[1]s -- @my-vm", v.Verb),
		Args:    exactlyOne(podArgument),
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		if _, err := do(cmd.Context(), p, v.Verb); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), v.done+"\n", p)
		return err
	})
}

func do(ctx context.Context, p *reach.Pod, v api.Verb) (vm api.VM, err error) {
	err = p.Call(ctx, http.MethodPost, p.Path(string(v)), nil, &vm)
	return vm, err
}
