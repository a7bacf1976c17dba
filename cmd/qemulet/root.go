package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/manual"
	"github.com/qemulet/qemulet/internal/version"
)

// newRootCommand lists the subcommands; each has a file of its own.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "qemulet",
		Short: "Virtual machines as Kubernetes pods",
		Long: `qemulet runs virtual machines as Kubernetes pods. It is a container runtime
(CRI) that starts QEMU instead of containers: kubelet or crictl asks, qemulet
prepares the disk and the network and boots the machine.

On a node, "qemulet serve" is the daemon. On one machine without a cluster,
"qemulet run" runs a pod's manifest.`,
		Example: `  # Boot a pod's manifest on this machine, and see its console:
  qemulet run pod.yaml

  # What would it become, and what is wrong with it?
  qemulet validate pod.yaml

  # Serve kubelet on a node:
  qemulet serve`,
		Version:       version.Number(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.AddCommand(
		newRunCommand(),
		newValidateCommand(),
		newPsCommand(),
		newInspectCommand(),
		newAttachCommand(),
		newLogsCommand(),
		newStopCommand(),
		newRmCommand(),
		newImageCommand(),
		newServeCommand(),
		newConfigCommand(),
		newVersionCommand(),
		manual.Command(root, "1"),
	)
	return root
}
