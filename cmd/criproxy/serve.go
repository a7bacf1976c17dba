package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/qemulet/qemulet/internal/criproxy"
	"github.com/qemulet/qemulet/internal/unixsock"
	"github.com/qemulet/qemulet/internal/version"
	"github.com/qemulet/qemulet/internal/watchdog"
)

// stopLimit bounds how long calls under way may go on after the proxy was told
// to end: kubelet repeats them.
const stopLimit = 2 * time.Second

func serve(ctx context.Context, o *options, out io.Writer) error {
	// A call passes from hand to hand a dozen times and is hardly worked on: with
	// one thread none of them has to be woken.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: o.logLevel}))
	proxy, err := criproxy.New(criproxy.Options{
		Primary: o.primary, VM: o.vm, RuntimeID: o.id, Handlers: o.handlers,
		StateDir: o.stateDir, Patience: o.patience, Log: log,
	})
	if err != nil {
		return err
	}
	l, err := unixsock.Listen(o.listen, 0o600)
	if err != nil {
		return err
	}
	log.Info("criproxy is listening", "version", version.Number(), "socket", o.listen, "primary", o.primary, o.id, o.vm, "handlers", o.handlers)
	notify(log, daemon.SdNotifyReady)
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		notify(log, daemon.SdNotifyStopping)
		limited, cancel := context.WithTimeout(context.Background(), stopLimit)
		defer cancel()
		stopped <- proxy.Stop(limited)
	})()
	looking, endLooking := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- watchdog.Run(looking, watchdog.Socket(o.listen, nil), log) }()
	err = proxy.Serve(l)
	endLooking()
	err = errors.Join(err, <-watched)
	if ctx.Err() != nil {
		err = errors.Join(err, <-stopped)
	}
	return err
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not told", "state", state, "error", err)
	}
}

func printVersion(out io.Writer) error {
	_, err := fmt.Fprintln(out, "criproxy", version.Number())
	return err
}
