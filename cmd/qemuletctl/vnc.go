package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/reach"
)

const vncHelp = `Show the display of a VM to VNC viewers on this machine.

It listens on a loopback port, 1024 to 65535 or a free one, until Ctrl-C; any number of
viewers may connect. The connections go through the daemon: QEMU itself listens nowhere.

The pod must have the annotation qemulet.io/display: vga from its start.`

const vncExamples = `  PROGRAM vnc my-vm
  PROGRAM vnc my-vm 5901`

func newVNCCommand(a *access) *cobra.Command {
	cmd := a.withPod(&cobra.Command{
		Use: "vnc POD [PORT]", Short: "Show the display of a VM to VNC viewers", Long: vncHelp, Example: vncExamples,
	}, func(cmd *cobra.Command, p *reach.Pod, rest []string) error {
		return serveVNC(cmd.Context(), p, portOf(rest), cmd.OutOrStdout(), cmd.ErrOrStderr())
	})
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) < 1 || len(args) > 2 {
			return argumentsError(cmd, "a pod, and a port or none")
		}
		if len(args) == 2 {
			return checkPort(args[1])
		}
		return nil
	}
	return cmd
}

func checkPort(text string) error {
	if n, err := strconv.Atoi(text); err != nil || n < 1024 || n > 65535 {
		return fmt.Errorf("port %q: a number from 1024 to 65535 is accepted", text)
	}
	return nil
}

// portOf is the port that checkPort has accepted, "0" for any.
func portOf(rest []string) string {
	if len(rest) == 0 {
		return "0"
	}
	return rest[0]
}

// serveVNC relays connections to the display until ctx ends.
func serveVNC(ctx context.Context, p *reach.Pod, port string, out, problems io.Writer) error {
	// A display that is not there is said at once, not to a viewer.
	display, err := p.Upgrade(ctx, p.Path(api.VNCPath), nil)
	if err != nil {
		return err
	}
	_ = display.Close()
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	fmt.Fprintf(out, "VNC display of %s: %s (Ctrl-C ends it)\n", p.PodName, l.Addr())
	var viewers sync.WaitGroup
	defer viewers.Wait()
	for {
		viewer, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		viewers.Go(func() {
			if err := showDisplay(ctx, p, viewer); err != nil && ctx.Err() == nil {
				fmt.Fprintln(problems, err)
			}
		})
	}
}

// showDisplay copies between a viewer and the display until either leaves.
func showDisplay(ctx context.Context, p *reach.Pod, viewer net.Conn) error {
	defer viewer.Close()
	display, err := p.Upgrade(ctx, p.Path(api.VNCPath), nil)
	if err != nil {
		return err
	}
	shut := func() {
		_ = display.Close()
		_ = viewer.Close()
	}
	defer shut()
	defer context.AfterFunc(ctx, shut)()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(display, viewer)
		shut()
	})
	_, _ = io.Copy(viewer, display)
	shut()
	wg.Wait()
	return nil
}
