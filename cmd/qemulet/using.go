package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/podrun"
)

// startLimit is how long a daemon may take until it serves.
const startLimit = time.Minute

// using is a daemon that answers, and how to let go of it.
type using struct {
	client   *podrun.Client
	stateDir string
	info     io.Writer
	// marker is nil when somebody else started the daemon, whose it then is.
	marker *marker
	// stop ends a daemon in this process; nil when it is in another.
	stop func() error
}

// ensureDaemon takes the daemon that runs, or starts one: in this process, or,
// if it is to stay, in one of its own.
func ensureDaemon(ctx context.Context, cfg *config.Config, stays bool, info io.Writer) (*using, error) {
	listening, err := podrun.Listening(cfg.CRISocket)
	if err != nil {
		return nil, err
	}
	if listening {
		return useRunning(ctx, cfg, info)
	}
	if err := chooseNetwork(cfg, info); err != nil {
		return nil, err
	}
	chooseVolumes(cfg)
	d := &using{stateDir: cfg.StateDir, info: info}
	if d.marker, err = mark(cfg); err != nil {
		return nil, err
	}
	if err := d.start(ctx, cfg, stays); err != nil {
		return nil, errors.Join(err, d.forget())
	}
	return d, nil
}

func (d *using) start(ctx context.Context, cfg *config.Config, stays bool) (err error) {
	if stays {
		err = d.startBeside(ctx)
	} else {
		d.stop, err = startInside(ctx, cfg)
	}
	if err == nil {
		d.client, err = dial(ctx, cfg.CRISocket, cfg.APISocket)
	}
	if err != nil && d.stop != nil {
		err = errors.Join(err, d.stop())
	}
	return err
}

// startBeside starts a daemon that outlives this process, with the settings
// of the marker.
func (d *using) startBeside(ctx context.Context) error {
	settings, err := d.marker.settings()
	if err != nil {
		return err
	}
	pid, err := startDetached(ctx, settings)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.info, "a daemon runs in the background, process %d; it ends when its last pod is removed\n", pid)
	return nil
}

func dial(ctx context.Context, criSocket, apiSocket string) (*podrun.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return podrun.Connect(ctx, criSocket, apiSocket)
}

// useRunning takes a daemon that runs already. Settings that were given, but
// are not that daemon's, have no effect, which is said.
func useRunning(ctx context.Context, cfg *config.Config, info io.Writer) (*using, error) {
	client, err := dial(ctx, cfg.CRISocket, cfg.APISocket)
	if err != nil {
		return nil, err
	}
	settings := client.Settings(ctx)
	for _, v := range cfg.Values() {
		if have, told := settings[v.Name]; told && have != v.Value && !cfg.IsDefault(v.Name) {
			fmt.Fprintf(info, "note: the daemon that runs has %s %q: %q, from %s, has no effect\n", v.Name, have, v.Value, v.Origin)
		}
	}
	d := &using{client: client, stateDir: cfg.StateDir, info: info}
	if dir := settings["state-dir"]; dir != "" {
		d.stateDir = dir
	}
	if d.marker, err = findMarker(d.stateDir); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return d, nil
}

// logDir is where the logs of pods go.
func (d *using) logDir() string { return filepath.Join(d.stateDir, "logs") }

// leave lets go of the daemon. One that was started by `qemulet run` ends when
// nothing needs it any more; if something does, it goes on in the background.
func (d *using) leave(ctx context.Context) error {
	if d.marker == nil {
		return d.client.Close()
	}
	alone := d.marker.alone()
	empty, err := d.client.Empty(ctx)
	err = errors.Join(err, d.client.Close())
	if alone && empty {
		return errors.Join(err, d.end(ctx))
	}
	if d.stop != nil {
		if err := errors.Join(err, d.stop()); err != nil {
			return errors.Join(err, d.marker.release())
		}
		fmt.Fprintln(d.info, "there are other pods, which still need the daemon (`qemulet ps` lists them):")
		err = d.startBeside(ctx)
	}
	return errors.Join(err, d.marker.release())
}

// end ends the daemon and removes what was made for it.
func (d *using) end(ctx context.Context) error {
	settings, err := d.marker.settings()
	if err != nil {
		return errors.Join(err, d.marker.release())
	}
	stop := d.stop
	if stop == nil {
		stop = func() error { return endDetached(ctx, settings["cri-socket"]) }
	}
	if err := stop(); err != nil {
		return errors.Join(err, d.marker.release())
	}
	if settings["cni-conf-dir"] == podrun.DefaultNetworkDir(d.stateDir) {
		err = podrun.RemoveDefaultNetwork(d.stateDir)
	}
	if settings["kubelet-root-dir"] == volumesDir(d.stateDir) {
		podrun.Tidy(settings)
	}
	return errors.Join(err, removeLog(d.stateDir), d.marker.remove())
}

// forget is for a daemon that could not be started. What a killed one left
// still needs the marker.
func (d *using) forget() error {
	pods, _ := os.ReadDir(filepath.Join(d.stateDir, "pods"))
	if len(pods) == 0 && d.marker.alone() {
		return d.marker.remove()
	}
	return d.marker.release()
}

// connect reaches the daemon of this machine. One that `qemulet run` started
// and that was killed is started again, since its pods are still there.
func connect(ctx context.Context, cfg *config.Config, info io.Writer) (*using, error) {
	listening, err := podrun.Listening(cfg.CRISocket)
	if err != nil {
		return nil, err
	}
	if listening {
		d, err := useRunning(ctx, cfg, io.Discard)
		if err == nil {
			return d, nil
		}
		// A daemon that was killed a moment ago still takes connections.
		if still, _ := podrun.Listening(cfg.CRISocket); still {
			return nil, err
		}
	}
	d := &using{stateDir: cfg.StateDir, info: info}
	if d.marker, err = findMarker(cfg.StateDir); err != nil {
		return nil, err
	}
	if d.marker == nil {
		return nil, fmt.Errorf("no daemon listens on %s, and no pods of an earlier one are in %s: "+
			"`qemulet run POD.yaml` starts one, `qemulet serve` too", cfg.CRISocket, cfg.StateDir)
	}
	fmt.Fprintln(info, "the daemon is gone, but perhaps not its pods: starting it again")
	if err := d.revive(ctx); err != nil {
		return nil, errors.Join(err, d.marker.release())
	}
	return d, nil
}

// reviveLimit is how long the last daemon may take to be wholly gone, or
// another command to start the next.
const reviveLimit = 3 * time.Second

// revive starts the marker's daemon and connects to it. Whoever is killed may
// hold its files for a moment, and another command may have the same wish at
// the same time: both end soon, so a failure is not believed at once.
func (d *using) revive(ctx context.Context) error {
	settings, err := d.marker.settings()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(reviveLimit); ; {
		err := d.startBeside(ctx)
		if listening, _ := podrun.Listening(settings["cri-socket"]); listening {
			d.client, err = dial(ctx, settings["cri-socket"], settings["api-socket"])
			return err
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(reviveLimit / 10):
		}
	}
}
