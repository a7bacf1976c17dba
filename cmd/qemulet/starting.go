package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/qemulet/qemulet/internal/config"
	node "github.com/qemulet/qemulet/internal/daemon"
	"github.com/qemulet/qemulet/internal/podrun"
)

// chooseNetwork takes the default network when the machine has no CNI
// configuration.
func chooseNetwork(cfg *config.Config, info io.Writer) error {
	for _, pattern := range []string{"*.conf", "*.conflist", "*.json"} {
		if found, _ := filepath.Glob(filepath.Join(cfg.CNIConfDir, pattern)); len(found) > 0 {
			return nil
		}
	}
	dir, err := podrun.WriteDefaultNetwork(cfg.StateDir)
	if err != nil {
		return fmt.Errorf("the default network: %w", err)
	}
	fmt.Fprintf(info, "note: no CNI configuration in %s: pods are connected to the bridge %s\n", cfg.CNIConfDir, podrun.DefaultBridge)
	cfg.CNIConfDir = dir
	return nil
}

// chooseVolumes gives the volumes of pods a directory of their own: that of a
// kubelet on this machine is kubelet's alone.
func chooseVolumes(cfg *config.Config) {
	if cfg.IsDefault("kubelet-root-dir") {
		cfg.KubeletRootDir = volumesDir(cfg.StateDir)
	}
}

func volumesDir(stateDir string) string { return filepath.Join(stateDir, "kubelet") }

// logFile in the state directory takes the daemon's log, since the terminal
// is the guest's.
const logFile = "qemulet.log"

func openLog(stateDir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(stateDir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

func removeLog(stateDir string) error {
	err := os.Remove(filepath.Join(stateDir, logFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// startInside runs the daemon in this process until stop is called.
func startInside(ctx context.Context, cfg *config.Config) (stop func() error, err error) {
	file, err := openLog(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	log := newLog(file, cfg)
	klog.SetSlogLogger(log)
	// The daemon is needed until the pod is removed, whatever was interrupted.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- node.Run(inner, cfg, log, func() { close(ready) }) }()
	stop = func() error {
		cancel()
		return errors.Join(<-done, file.Close())
	}
	select {
	case err := <-done:
		cancel()
		return nil, errors.Join(err, file.Close())
	case <-ctx.Done():
		return nil, errors.Join(podrun.ErrInterrupted, stop())
	case <-ready:
		return stop, nil
	}
}

// startDetached starts `qemulet serve` in a session of its own and returns its
// process when it serves.
func startDetached(ctx context.Context, settings map[string]string) (pid int, err error) {
	ready, err := listenReady()
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	log, err := openLog(settings["state-dir"])
	if err != nil {
		return 0, err
	}
	defer log.Close()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	serve, err := serveCommand(settings, log, ready.LocalAddr().String())
	if err != nil {
		return 0, err
	}
	if err := serve.Start(); err != nil {
		return 0, err
	}
	gone := make(chan error, 1)
	go func() { gone <- serve.Wait(); _ = ready.Close() }()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = ready.Close() })()
	if waitReady(ready) {
		return serve.Process.Pid, nil
	}
	select {
	case err := <-gone:
		return 0, fmt.Errorf("the daemon ended at once (%w): %s", err, lastWords(log.Name(), before))
	case <-ctx.Done():
		_ = serve.Process.Signal(syscall.SIGTERM)
		return 0, fmt.Errorf("the daemon does not serve (%w): %s may say why", context.Cause(ctx), log.Name())
	}
}

func serveCommand(settings map[string]string, log *os.File, ready string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"serve"}
	for name, value := range settings {
		args = append(args, "--"+name+"="+value)
	}
	slices.Sort(args[1:])
	c := exec.Command(self, args...)
	c.Dir = "/"
	c.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c, nil
}

// listenReady opens a socket as systemd's, to which a daemon says that it serves.
func listenReady() (*net.UnixConn, error) {
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: fmt.Sprintf("@qemulet-%d-%d", os.Getpid(), time.Now().UnixNano())})
}

// waitReady returns true when the daemon serves, false when the socket was closed.
func waitReady(ready *net.UnixConn) bool {
	buf := make([]byte, 4096)
	for {
		n, err := ready.Read(buf)
		if err != nil {
			return false
		}
		if bytes.Contains(buf[:n], []byte(daemon.SdNotifyReady)) {
			return true
		}
	}
}

// lastWords is the last line of a log behind an offset.
func lastWords(path string, from int64) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw[min(from, int64(len(raw))):])), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "qemulet: ")
}

// endLimit is how long a daemon may take to end; its own limit is shorter.
const endLimit = 40 * time.Second

// endDetached ends the daemon that listens on the socket and waits until it is gone.
func endDetached(ctx context.Context, socket string) error {
	pid, err := podrun.DaemonPID(socket)
	if err != nil {
		return fmt.Errorf("the daemon on %s: %w", socket, err)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("the daemon, process %d: %w", pid, err)
	}
	process := os.NewFile(uintptr(fd), "pidfd")
	defer process.Close()
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return fmt.Errorf("ending the daemon, process %d: %w", pid, err)
	}
	defer context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Now()) })()
	_ = process.SetReadDeadline(time.Now().Add(endLimit))
	return waitExit(process, pid)
}

// waitExit waits until the pidfd can be read, which is when its process has ended.
func waitExit(process *os.File, pid int) error {
	raw, err := process.SyscallConn()
	if err != nil {
		return err
	}
	exited := func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	}
	if err := raw.Read(exited); err != nil {
		return fmt.Errorf("the daemon, process %d, has not ended: %w", pid, err)
	}
	return nil
}
