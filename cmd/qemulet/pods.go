package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/podrun"
)

// withClient makes a command that speaks to the daemon of this machine.
func withClient(cmd *cobra.Command, do func(ctx context.Context, c *podrun.Client, args []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		cfg, err := config.Load(cmd.Flags(), os.Environ())
		if err != nil {
			return err
		}
		client, err := connect(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		return do(cmd.Context(), client, args)
	}
	config.AddFlags(cmd.Flags())
	for _, name := range config.Names() {
		if name != "run-dir" && name != "cri-socket" && name != "api-socket" {
			_ = cmd.Flags().MarkHidden(name)
		}
	}
	return cmd
}

const podArgument = "the pod's name, NAMESPACE/NAME, or the beginning of its sandbox's id"

func newPsCommand() *cobra.Command {
	return withClient(&cobra.Command{
		Use:     "ps",
		Short:   "List the VM pods of this machine",
		Example: "  qemulet ps",
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, c *podrun.Client, _ []string) error {
		return c.List(ctx, os.Stdout)
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
	}, attach)
}

func attach(ctx context.Context, c *podrun.Client, args []string) error {
	p, err := c.Find(ctx, args[0])
	if err != nil {
		return err
	}
	if p.Container == nil {
		return fmt.Errorf("pod %q has no VM", args[0])
	}
	return c.Session(ctx, p.Container.Id, os.Stdin, os.Stdout, os.Stderr)
}

func newLogsCommand() *cobra.Command {
	var o podrun.LogOptions
	cmd := withClient(&cobra.Command{
		Use:     "logs [-f] POD",
		Short:   "Show what a VM has printed on its console",
		Example: "  qemulet logs cirros-vm\n  qemulet logs -f --timestamps cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return c.Logs(ctx, args[0], o, io.Writer(os.Stdout))
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
		return c.Stop(ctx, args[0], grace)
	})
	cmd.Flags().DurationVarP(&grace, "time", "t", 30*time.Second, "how long the guest may take; 0s ends it at once")
	return cmd
}

func newRmCommand() *cobra.Command {
	var force bool
	cmd := withClient(&cobra.Command{
		Use:     "rm POD",
		Short:   "Remove a pod with its disks and logs",
		Example: "  qemulet rm cirros-vm\n  qemulet rm --force cirros-vm",
		Args:    exactlyOne(podArgument),
	}, func(ctx context.Context, c *podrun.Client, args []string) error {
		return c.Remove(ctx, args[0], force)
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also when its VM runs")
	return cmd
}
