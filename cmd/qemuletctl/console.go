package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
	"github.com/qemulet/qemulet/internal/terminal"
)

const consoleHelp = `Connect to the serial console of a VM. Every key goes to the guest; Ctrl-] leaves
the console, and the VM runs on. Any number of people may be connected at once. What
was printed before is in the log: kubectl logs.

When standard input is no terminal it is sent to the guest, and what the guest prints
is shown until the VM ends, or Ctrl-C.`

func newConsoleCommand(a *access) *cobra.Command {
	return a.withPod(&cobra.Command{
		Use: "console POD", Short: "Connect to the serial console of a VM", Long: consoleHelp,
		Example: "  PROGRAM console my-vm\n  PROGRAM console team/my-vm", Args: exactlyOne(podArgument),
	}, func(cmd *cobra.Command, p *reach.Pod, _ []string) error {
		return console(cmd.Context(), p, os.Stdin, os.Stdout, os.Stderr)
	})
}

func console(ctx context.Context, p *reach.Pod, in, out *os.File, info io.Writer) error {
	conn, err := p.Upgrade(ctx, p.Path("console"), nil)
	if err != nil {
		return err
	}
	if !terminal.Interactive(in, out) {
		var piped io.Reader
		if !terminal.IsTerminal(in) {
			piped = in
		}
		return sit(ctx, p, conn, piped, out, nil)
	}
	fmt.Fprintf(info, "connected to the console of %s; Ctrl-] leaves it, Enter shows a prompt\n", p.Name)
	restore, err := terminal.Raw(in)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer fmt.Fprintln(info)
	defer restore()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys, left := terminal.NewKeyboard(in).Reader(ctx)
	return sit(ctx, p, conn, keys, out, left)
}

// sit connects until left is closed, ctx ends or the session does, and closes conn.
// keys may be nil; their end is not the end.
func sit(ctx context.Context, p *reach.Pod, conn net.Conn, keys io.Reader, out io.Writer, left <-chan struct{}) error {
	if keys != nil {
		go func() { _, _ = io.Copy(conn, keys) }()
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, conn)
		ended <- err
	}()
	var err error
	select {
	case <-left:
	case <-ctx.Done():
	case err = <-ended:
		_ = conn.Close()
		return afterConsole(ctx, p, err)
	}
	_ = conn.Close()
	<-ended
	return nil
}

// afterConsole says why a console has closed: most often because the VM ended.
func afterConsole(ctx context.Context, p *reach.Pod, cause error) error {
	var vm api.VMDetails
	if err := p.Call(ctx, http.MethodGet, p.Path(), nil, &vm); err != nil {
		return errors.Join(cause, err)
	}
	switch vm.State {
	case api.StateExited:
		return fmt.Errorf("the VM of %s has ended: %s, %s", p, vm.Reason, vm.Message)
	case api.StateStopping:
		return fmt.Errorf("the VM of %s is ending", p)
	}
	if cause != nil && !isClosed(cause) {
		return cause
	}
	return fmt.Errorf("the console of %s was closed by the node", p)
}
