package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
)

const serveHelp = `Serve CRI to kubelet, crictl or the CRI proxy until SIGTERM or SIGINT.

Stopping, upgrading or killing this daemon never touches a virtual machine:
the next one finds them, and what it missed meanwhile, by its records.

Each setting can be given in three places. The flag counts most, then the
environment, then the file; less than all three, in a cluster, the ConfigMap
virtlet-config and VirtletConfigMapping objects. SIGHUP has them read anew. What
each means, and which change at once: docs/configuration.md, "qemulet config dump".

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
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends the process at once
			return serve(ctx, loadWith(cmd), cmd.ErrOrStderr())
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}

// loadWith reads the settings for a command with their flags.
func loadWith(cmd *cobra.Command) daemon.LoadSettings {
	return func(cluster ...config.Object) (*config.Config, error) {
		return config.Load(cmd.Flags(), os.Environ(), cluster...)
	}
}

func serve(ctx context.Context, load daemon.LoadSettings, out io.Writer) error {
	local, err := load()
	if err != nil {
		return err
	}
	level := &slog.LevelVar{}
	level.Set(local.Level())
	settings, err := daemon.OpenSettings(ctx, load, newLeveledLog(out, local, level), level)
	if err != nil {
		return err
	}
	cfg := settings.Config()
	log := newLeveledLog(out, cfg, level)
	for _, warning := range cfg.Warnings {
		log.Warn("settings", "warning", warning)
	}
	// The streaming protocols log with klog.
	klog.SetSlogLogger(log)
	defer context.AfterFunc(ctx, func() { notify(log, sddaemon.SdNotifyStopping) })()
	defer reloadOnHangup(settings, log)()
	return daemon.Serve(ctx, settings, log, func() { notify(log, sddaemon.SdNotifyReady) })
}

// reloadOnHangup reads the settings anew for each SIGHUP, until the returned
// function is called.
func reloadOnHangup(settings *daemon.Settings, log *slog.Logger) (stop func()) {
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(done)
		for range hangups {
			reload(settings, log)
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-done
	}
}

func reload(settings *daemon.Settings, log *slog.Logger) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it cannot fail
	notify(log, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sddaemon.SdNotifyReloading, now.Nano()/1000))
	if err := settings.Reload(); err != nil {
		log.Error("settings", "error", err)
	} else {
		log.Info("settings were read anew")
	}
	notify(log, sddaemon.SdNotifyReady)
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
	return newLeveledLog(w, cfg, cfg.Level())
}

func newLeveledLog(w io.Writer, cfg *config.Config, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
