package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/qmpshell"
	"github.com/qemulet/qemulet/internal/reach"
	"github.com/qemulet/qemulet/qmp"
)

const qmpHelp = `Send a command to the QEMU of a VM, over QMP, and print the answer as JSON.

Arguments are KEY=VALUE. A dot in the key leads into an object: a.b=c. A value that
is JSON is taken for it, so that 5 is a number and "5" a string; anything else is a
string. One argument that is a JSON object stands for all.

Commands that only look are allowed; --allow-writes allows others too, but none that
would take the VM from the daemon. Each command is in the daemon's log, with who sent
it and without its arguments.

With --shell commands are read from the terminal, with history and completion by Tab,
or from a pipe, one to a line; events are printed as they come. A pipe ends with
status 1 when a command has failed.`

const qmpExamples = `  PROGRAM qmp my-vm query-status
  PROGRAM qmp my-vm qom-get path=/machine property=type
  PROGRAM qmp my-vm human-monitor-command 'command-line=info pci'
  PROGRAM qmp my-vm --allow-writes set_link name=net0 up=false
  PROGRAM qmp my-vm --shell
  echo query-block | PROGRAM qmp my-vm --shell`

func newQMPCommand(a *access) *cobra.Command {
	var shell, writes bool
	cmd := a.withPod(&cobra.Command{
		Use: "qmp POD {COMMAND [KEY=VALUE...] | --shell}", Short: "Speak with the QEMU of a VM", Long: qmpHelp, Example: qmpExamples,
	}, func(cmd *cobra.Command, p *reach.Pod, rest []string) error {
		if shell {
			return qmpShell(cmd, p, writes)
		}
		c, err := qmpshell.Parse(rest)
		if err != nil {
			return err
		}
		conn, err := dialQMP(cmd.Context(), p, writes)
		if err != nil {
			return err
		}
		defer conn.Close()
		return qmpshell.Run(cmd.Context(), conn, c, cmd.OutOrStdout())
	})
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && shell || len(args) > 1 && !shell {
			return nil
		}
		return argumentsError(cmd, "a pod and a command with its arguments, or a pod and --shell")
	}
	cmd.Flags().BoolVar(&shell, "shell", false, "read commands from the terminal or a pipe")
	cmd.Flags().BoolVar(&writes, "allow-writes", false, "also allow commands that do more than look")
	return cmd
}

// dialQMP connects to a VM's monitor. The caller closes the connection.
func dialQMP(ctx context.Context, p *reach.Pod, writes bool) (*qmp.Conn, error) {
	query := url.Values{}
	if writes {
		query.Set("writes", "true")
	}
	nc, err := p.Upgrade(ctx, p.Path(api.MonitorPath), query)
	if err != nil {
		return nil, err
	}
	return qmp.New(ctx, nc)
}

func qmpShell(cmd *cobra.Command, p *reach.Pod, writes bool) error {
	ctx := cmd.Context()
	conn, err := dialQMP(ctx, p, writes)
	if err != nil {
		return err
	}
	defer conn.Close()
	if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return interact(ctx, conn, p, in)
	}
	s, err := qmpshell.New(ctx, conn, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	return s.Script(ctx, cmd.InOrStdin(), cmd.ErrOrStderr())
}

func interact(ctx context.Context, conn *qmp.Conn, p *reach.Pod, tty *os.File) error {
	fd := int(tty.Fd())
	width, height, _ := term.GetSize(fd) // the shell knows what to do without
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer func() { _ = term.Restore(fd, before) }()
	return qmpshell.Interact(ctx, conn, tty, os.Stdout, p.String()+"> ", width, height)
}
