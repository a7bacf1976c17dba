package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
)

const serveHelp = `Serve CRI to kubelet, crictl or the CRI proxy until SIGTERM or SIGINT.

Stopping, upgrading or killing this daemon never touches a virtual machine:
the next one finds them, and what it missed meanwhile, by its records.

Each setting can be given in three places. The flag counts most, then the
environment, then the file:

    flag          --run-dir /run/qemulet
    environment   QEMULET_RUN_DIR=/run/qemulet
    file          run-dir: /run/qemulet        (YAML, ` + config.DefaultFile + `
                                                or --config FILE)`

const serveExamples = `  # As kubelet's neighbour, with everything at its usual place:
  qemulet serve

  # Is it well? (another terminal)
  crictl --runtime-endpoint unix:///run/qemulet/cri.sock info

  # Beside another one, for a try, without root's directories:
  qemulet serve --run-dir /tmp/q/run --state-dir /tmp/q/state --log-level debug

  # On a machine without KVM; auto would find that out by itself:
  qemulet serve --accel tcg`

func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Run the node daemon",
		Long:    serveHelp,
		Example: serveExamples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd.Flags(), os.Environ())
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return serve(ctx, cfg, newLog(cmd.ErrOrStderr(), cfg))
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

func serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	for _, warning := range cfg.Warnings {
		log.Warn("settings", "warning", warning)
	}
	// The streaming protocols log with klog.
	klog.SetSlogLogger(log)
	defer context.AfterFunc(ctx, func() { notify(log, sddaemon.SdNotifyStopping) })()
	return daemon.Run(ctx, cfg, log, func() { notify(log, sddaemon.SdNotifyReady) })
}

// notify tells systemd, if it started us.
func notify(log *slog.Logger, state string) {
	if _, err := sddaemon.SdNotify(false, state); err != nil {
		// Who only waited for the start has left by the time of the end.
		log.Debug("telling systemd", "state", state, "error", err)
	}
}

// newLog makes the log that the settings ask for.
func newLog(w io.Writer, cfg *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level()}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
