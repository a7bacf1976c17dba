package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/qemulet/qemulet/internal/config"
)

func newRelayCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "relay",
		Short:  "Copy between the standard streams and the daemon's api socket",
		Hidden: true,
		Long: `Copy between the standard streams and the daemon's api socket, until either ends.
It is started in the pods of the DaemonSet by commands that come from afar.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, _ := cmd.Flags().GetString("socket")
			if socket == "" {
				cfg, err := config.Load(nil, os.Environ())
				if err != nil {
					return err
				}
				socket = cfg.APISocket
			}
			return relay(cmd.Context(), socket, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

// relay ends when either side does: who is at the other end of in has left when
// that ends.
func relay(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("the daemon's api socket %s: %w", socket, err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		_, _ = io.Copy(conn, in)
		_ = conn.Close()
	}()
	_, err = io.Copy(out, conn)
	_ = conn.Close()
	if isClosed(err) {
		return nil
	}
	return err
}

// isClosed tells whether an error is only that a connection was closed.
func isClosed(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
