package runtime

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"github.com/qemulet/qemulet/internal/console"
	"github.com/qemulet/qemulet/internal/unixsock"
	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

// consoles are what people see of a running VM: its serial console, its log,
// and the QMP socket for debugging. It owns all three.
type consoles struct {
	hub *console.Hub // nil when QEMU is gone already
	log *console.Log // nil when an adopted VM's cannot be written
	mux *qmp.Mux     // nil when QEMU does not answer

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// openConsoles opens the VM's console and takes over log, which may be nil.
func (r *Runtime) openConsoles(v *vm, log *console.Log) *consoles {
	c := &consoles{log: log}
	ctx, cancel := context.WithCancel(r.background)
	c.stop = cancel
	if log != nil {
		c.wg.Go(func() {
			if err := log.Run(ctx); err != nil {
				r.vmLog(v).Error("console log", "error", err)
			}
		})
	}
	line, err := console.OpenLine(filepath.Join(r.vmDir(v.pod.uid(), v.id), consoleFile), qemu.ConsoleInputPath(r.runDir(v.id)), r.Watcher)
	if err != nil {
		// Nobody can attach then; it is no reason to lose the VM.
		r.vmLog(v).Error("console", "error", err)
		return c
	}
	c.hub = console.NewHub(line, console.HubOptions{})
	return c
}

// openLog calls first, unless that is nil, when the guest says its first word.
func (r *Runtime) openLog(v *vm, first func()) (*console.Log, error) {
	dir := r.vmDir(v.pod.uid(), v.id)
	return console.OpenLog(console.LogOptions{
		Source:  filepath.Join(dir, consoleFile),
		Path:    logPath(v.pod.config(), v.record().Config.M),
		Watcher: r.Watcher,
		OnFirst: first,
		OnError: func(err error) { r.vmLog(v).Error("console log, trying again", "error", err) },
	})
}

// openDebug serves the monitor to people.
func (r *Runtime) openDebug(v *vm, c *consoles, m *qemu.Machine) error {
	monitor := m.QMP()
	if monitor == nil {
		return nil
	}
	path := filepath.Join(r.runDir(v.id), debugSocket)
	l, err := unixsock.Listen(path, 0o600)
	if err != nil {
		return err
	}
	c.mux = qmp.NewMux(monitor, qmp.MuxOptions{
		Allow: r.DebugCommands.rule(),
		Audit: func(rec qmp.MuxRecord) { r.auditDebug(v, rec) },
	})
	c.wg.Go(func() {
		// It ends with the VM or with this daemon, in more than one way.
		err := c.mux.Serve(l)
		r.vmLog(v).Debug("debug socket closed", "reason", err)
	})
	return nil
}

// finish writes the rest of a dead VM's console to its log and releases everything.
func (c *consoles) finish(ctx context.Context) error {
	c.stop()
	var err error
	if c.log != nil {
		err = c.log.Finish(ctx)
	}
	return errors.Join(err, c.release())
}

// release lets go of everything; what the VM writes later is found by the next daemon.
func (c *consoles) release() error {
	c.stop()
	var errs []error
	if c.mux != nil {
		errs = append(errs, c.mux.Close())
	}
	if c.hub != nil {
		errs = append(errs, c.hub.Close())
	}
	c.wg.Wait()
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	return errors.Join(errs...)
}
