package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/daemon"
	"github.com/qemulet/qemulet/internal/podrun"
)

// startLimit is how long a daemon may take until it serves.
const startLimit = time.Minute

// running is a daemon that answers, and how to let go of it.
type running struct {
	client *podrun.Client
	end    func() error // of a daemon in this process, else nil
}

func (d *running) close() error {
	err := d.client.Close()
	if d.end != nil {
		err = errors.Join(err, d.end())
	}
	return err
}

// connect reaches the daemon that runs on this machine.
func connect(ctx context.Context, cfg *config.Config) (*podrun.Client, error) {
	if !podrun.Listening(cfg.CRISocket) {
		return nil, fmt.Errorf("no daemon listens on %s: start one with `qemulet serve`, or with `qemulet run --detach POD.yaml`", cfg.CRISocket)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return podrun.Connect(ctx, cfg.CRISocket, cfg.APISocket)
}

// ensureDaemon takes the daemon that runs, or starts one: in this process, or,
// if it is to stay, in one of its own.
func ensureDaemon(ctx context.Context, cmd *cobra.Command, cfg *config.Config, stays bool) (*running, error) {
	if podrun.Listening(cfg.CRISocket) {
		client, err := connect(ctx, cfg)
		return &running{client: client}, err
	}
	ownNetwork, err := chooseNetwork(cfg)
	if err != nil {
		return nil, err
	}
	log, err := openLog(cfg)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if stays {
		if err := startDetached(cmd, cfg, log); err != nil {
			return nil, err
		}
		client, err := connect(ctx, cfg)
		return &running{client: client}, err
	}
	return startInside(ctx, cfg, ownNetwork)
}

// chooseNetwork takes the default network when the machine has no CNI
// configuration and none was asked for.
func chooseNetwork(cfg *config.Config) (own bool, err error) {
	if !cfg.IsDefault("cni-conf-dir") {
		return false, nil
	}
	for _, pattern := range []string{"*.conf", "*.conflist", "*.json"} {
		if found, _ := filepath.Glob(filepath.Join(cfg.CNIConfDir, pattern)); len(found) > 0 {
			return false, nil
		}
	}
	cfg.CNIConfDir, err = podrun.WriteDefaultNetwork(cfg.StateDir)
	return true, err
}

// logFile takes the daemon's log, since the terminal is the guest's.
const logFile = "qemulet.log"

func openLog(cfg *config.Config) (*os.File, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o711); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	return os.OpenFile(filepath.Join(cfg.StateDir, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
}

// startInside runs the daemon in this process until end is called.
func startInside(ctx context.Context, cfg *config.Config, ownNetwork bool) (*running, error) {
	file, err := openLog(cfg)
	if err != nil {
		return nil, err
	}
	log := newLog(file, cfg)
	klog.SetSlogLogger(log)
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- daemon.Run(ctx, cfg, log, func() { close(ready) }) }()
	select {
	case err := <-done:
		cancel()
		return nil, errors.Join(err, file.Close())
	case <-ready:
	}
	end := func() error {
		cancel()
		return errors.Join(<-done, leaveNetwork(ownNetwork, log), file.Close())
	}
	client, err := connect(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, end())
	}
	return &running{client: client, end: end}, nil
}

func leaveNetwork(own bool, log *slog.Logger) error {
	if !own {
		return nil
	}
	err := podrun.RemoveDefaultBridge()
	if err != nil {
		log.Warn("removing the default network's bridge", "error", err)
	}
	return nil
}

// startDetached starts `qemulet serve` in a session of its own and waits until
// it serves.
func startDetached(cmd *cobra.Command, cfg *config.Config, log *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"serve"}
	for _, v := range cfg.Values() {
		args = append(args, "--"+v.Name+"="+v.Value)
	}
	serve := exec.Command(self, args...)
	serve.Stdout, serve.Stderr = log, log
	serve.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := serve.Start(); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- serve.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(startLimit); ; {
		select {
		case err := <-gone:
			return fmt.Errorf("the daemon ended at once (%w): %s says why", err, log.Name())
		case <-deadline:
			return errors.Join(fmt.Errorf("the daemon does not serve after %s: %s may say why", startLimit, log.Name()), serve.Process.Kill())
		case <-tick.C:
			if podrun.Listening(cfg.CRISocket) {
				fmt.Fprintf(cmd.ErrOrStderr(), "the daemon runs on as process %d; `kill %d` ends it, VMs run on\n", serve.Process.Pid, serve.Process.Pid)
				return nil
			}
		}
	}
}
