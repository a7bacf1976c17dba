package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const virshHelp = `Commands for those who know virsh, and who called it through virtletctl: there is no
libvirt, but these do what they did. A VM is named as @POD, or as a POD.

What stands behind -- is understood too, options included, so that scripts written
for virtletctl virsh go on. Other commands of virsh have none like them here:

  edit, define, attach-device    a VM is what its pod's manifest says
  vcpupin, setvcpus, setmem      limits and annotations of the pod
  migrate, snapshot-create       not offered
  qemu-monitor-command           qemuletctl qmp`

const virshExamples = `  PROGRAM virsh list
  PROGRAM virsh list --node worker-3 --all
  PROGRAM virsh domstats -- @my-vm --vcpu
  PROGRAM virsh console @team/my-vm`

func newVirshCommand(a *access) *cobra.Command {
	cmd := &cobra.Command{
		Use: "virsh COMMAND [-- @POD]", Short: "Commands as virsh has them", Long: virshHelp, Example: virshExamples,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return fmt.Errorf("virsh %s: there is no such command here; `%s --help` lists those that are, and what is instead of others", args[0], cmd.CommandPath())
		},
	}
	for _, sub := range domainCommands(a) {
		cmd.AddCommand(behindDashes(sub))
	}
	return cmd
}

// domainCommands are those that are there as virsh's too.
func domainCommands(a *access) []*cobra.Command {
	all := []*cobra.Command{newListCommand(a), newDominfoCommand(a), newDomstatsCommand(a), newDumpxmlCommand(a), newConsoleCommand(a)}
	for _, v := range verbs {
		all = append(all, newVerbCommand(a, v))
	}
	return all
}

// behindDashes makes a command read options behind "--" as those before.
func behindDashes(cmd *cobra.Command) *cobra.Command {
	check, run := cmd.Args, cmd.RunE
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		names, err := parseRest(cmd, args)
		if err != nil {
			return cmd.FlagErrorFunc()(cmd, err)
		}
		if err := check(cmd, names); err != nil {
			return err
		}
		return run(cmd, names)
	}
	return cmd
}

// parseRest sets the flags among args and returns the others.
func parseRest(cmd *cobra.Command, args []string) (names []string, err error) {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			names = append(names, arg)
			continue
		}
		if err := cmd.ParseFlags([]string{arg}); err != nil {
			return nil, err
		}
	}
	return names, nil
}
