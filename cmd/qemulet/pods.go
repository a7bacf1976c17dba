package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/podrun"
)

// withDaemon makes a command that speaks to the daemon of this machine.
func withDaemon(cmd *cobra.Command, do func(ctx context.Context, d *using, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		cfg, err := config.Load(cmd.Flags(), os.Environ())
		if err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		silenceKlog()
		d, err := connect(ctx, cfg, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return do(ctx, d, args)
	}
	addSettings(cmd, whereabouts)
	return cmd
}

// addSettings makes a command accept all settings, and show these in its help.
func addSettings(cmd *cobra.Command, shown []string) {
	config.AddFlags(cmd.Flags())
	for _, name := range config.Names() {
		if !slices.Contains(shown, name) {
			_ = cmd.Flags().MarkHidden(name)
		}
	}
}

// silenceKlog keeps what the streaming protocols log out of the terminal,
// which is the guest's.
func silenceKlog() { klog.SetSlogLogger(slog.New(slog.DiscardHandler)) }

// whereabouts are the settings that say where the daemon is; the others are
// accepted, so that one command line fits all commands, but are of no use.
var whereabouts = []string{"run-dir", "state-dir", "cri-socket", "api-socket"}

// withClient is withDaemon for commands that leave the daemon as it is.
func withClient(cmd *cobra.Command, do func(ctx context.Context, c *podrun.Client, args []string) error) *cobra.Command {
	return withDaemon(cmd, func(ctx context.Context, d *using, args []string) error {
		// Others may end the daemon meanwhile; this command then says so.
		err := d.marker.release()
		return errors.Join(err, do(ctx, d.client, args), d.client.Close())
	})
}

const podArgument = "the pod's name, NAMESPACE/NAME, or the beginning of its sandbox's id"

func newPsCommand() *cobra.Command {
	return withClient(&cobra.Command{
		Use:   "ps",
		Short: "List the VM pods of this machine",
		Long: `List the VM pods of this machine: what state each is in, its address, its image
and its age.`,
		Example: "  qemulet ps",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, c *podrun.Client, _ []string) error {
		return c.List(ctx, os.Stdout)
	})
}

func newInspectCommand() *cobra.Command {
	return withClient(&cobra.Command{
		Use:   "inspect POD",
		Short: "Show all that is known of a pod and its VM",
		Long: `Show all that is known of a pod and its VM, as JSON: addresses, links and
counters of its network, and the exact machine that runs.`,
		Example: "  qemulet inspect cirros-vm\n  qemulet inspect default/cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return c.Inspect(ctx, args[0], os.Stdout)
	})
}

func newAttachCommand() *cobra.Command {
	return withClient(&cobra.Command{
		Use:   "attach POD",
		Short: "Connect to the serial console of a VM",
		Long: `Connect to the serial console of a pod's VM. Every key goes to the guest;
Ctrl-] leaves the console, and the VM runs on. Any number of people may be
attached at once. What was printed before is in the log: qemulet logs POD.`,
		Example: "  qemulet attach cirros-vm\n  qemulet attach default/cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return c.Session(ctx, args[0], os.Stdin, os.Stdout, os.Stderr)
	})
}

func newLogsCommand() *cobra.Command {
	var o podrun.LogOptions
	cmd := withClient(&cobra.Command{
		Use:   "logs [-f] POD",
		Short: "Show what a VM has printed on its console",
		Long: `Show what a VM has printed on its console. Lines that begin with "qemulet:" are
remarks on its manifest.`,
		Example: "  qemulet logs cirros-vm\n  qemulet logs -f --timestamps cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return c.Logs(ctx, args[0], o, os.Stdout)
	})
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on until the VM ends")
	cmd.Flags().BoolVar(&o.Timestamps, "timestamps", false, "show when each line was printed")
	return cmd
}

func newStopCommand() *cobra.Command {
	var grace time.Duration
	cmd := withClient(&cobra.Command{
		Use:     "stop POD",
		Short:   "Power a VM off",
		Long:    "Press the guest's power button, and end the VM by force when it is still there after the time.",
		Example: "  qemulet stop cirros-vm\n  qemulet stop --time 5s cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return c.Stop(ctx, args[0], grace, os.Stderr)
	})
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if grace < 0 {
			return fmt.Errorf("--time %s: a time span from 0s on is accepted", grace)
		}
		return nil
	}
	cmd.Flags().DurationVarP(&grace, "time", "t", 30*time.Second, "how long the guest may take; 0s ends it at once")
	return cmd
}

func newRmCommand() *cobra.Command {
	var force bool
	cmd := withDaemon(&cobra.Command{
		Use:   "rm POD",
		Short: "Remove a pod with its disks and logs",
		Long: `Remove a pod with its disks and logs; the image stays. A daemon that qemulet run
left running ends with its last pod.`,
		Example: "  qemulet rm cirros-vm\n  qemulet rm --force cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, d *using, args []string) error {
		err := d.client.Remove(ctx, args[0], force, os.Stderr)
		return errors.Join(err, d.leave(ctx))
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also when its VM runs")
	return cmd
}
