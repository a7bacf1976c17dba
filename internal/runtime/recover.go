package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

const (
	// recoverParallel pods are recovered side by side, each within recoverLimit.
	recoverParallel = 8
	recoverLimit    = 10 * time.Second
	// resumeWait is how long Recover waits for what goes on in the background.
	resumeWait = 5 * time.Second
)

// Recover reads the records and makes the world agree with them: it adopts
// the VMs that run, records how those that do not have ended, and finishes or
// undoes what the last daemon was in the middle of. A pod that cannot be
// recovered is logged and left to kubelet's clean-up; it never holds up the
// others. What needs CNI's plugins, which may hang after a reboot, goes on in
// the background when it takes long. Recover is called once, before anything else.
func (r *Runtime) Recover(ctx context.Context) error {
	boot, err := currentBoot()
	if err != nil {
		return err
	}
	last, err := r.DB.BootID()
	if err != nil {
		return err
	}
	r.load()
	rebooted := last != "" && last != boot
	r.eachPod("recovering a pod", func(p *pod) error {
		ctx, cancel := context.WithTimeout(ctx, recoverLimit)
		defer cancel()
		return r.recoverPod(ctx, p, rebooted)
	})
	// Not before, or a second crash would hide the reboot.
	if err := r.DB.SetBootID(boot); err != nil {
		return err
	}
	r.resume(ctx)
	r.wg.Go(r.watchNetworks)
	r.wg.Go(func() { r.checkNetworks(r.background) })
	return nil
}

// eachPod calls do for all pods, some at a time, and logs errors.
func (r *Runtime) eachPod(what string, do func(*pod) error) {
	var g errgroup.Group
	g.SetLimit(recoverParallel)
	for _, p := range r.allPods() {
		g.Go(func() error {
			if err := do(p); err != nil {
				r.podLog(p).Error(what, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait()
}

// load reads the records. While there are some that it cannot read no image is
// deleted: it may be below a disk of theirs.
func (r *Runtime) load() {
	sandboxes, errS := r.DB.Sandboxes()
	for _, rec := range sandboxes {
		r.addPod(newPod(rec))
	}
	containers, errC := r.DB.Containers()
	for _, rec := range containers {
		p, err := r.pod(rec.SandboxID)
		if err != nil {
			r.Log.With(LogVM(rec.ID)...).Error("container without its sandbox", "sandbox", rec.SandboxID)
			continue
		}
		r.addVM(newVM(p, rec))
	}
	if err := errors.Join(errS, errC); err != nil {
		r.Log.Error("records that cannot be read are left alone", "error", err)
		return
	}
	r.Images.SetInUse(r.imagesInUse)
}

// resume finishes what the sandboxes' phases announce, and returns when that
// is done or has taken too long to wait for.
func (r *Runtime) resume(ctx context.Context) {
	done := make(chan struct{})
	r.wg.Go(func() {
		defer close(done)
		r.eachPod("resuming a pod's clean-up", func(p *pod) error { return r.resumePod(r.background, p) })
	})
	select {
	case <-done:
	case <-time.After(resumeWait):
		r.Log.Warn("cleaning up after the last daemon goes on in the background")
	case <-ctx.Done():
	}
}

func currentBoot() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

func (r *Runtime) recoverPod(ctx context.Context, p *pod, rebooted bool) error {
	p.lock.mustAcquire()
	defer p.lock.release()
	errs := []error{r.recoverNetwork(ctx, p, rebooted)}
	for _, v := range r.vmsOf(p) {
		errs = append(errs, r.recoverVM(ctx, v, rebooted))
	}
	return errors.Join(errs...)
}

// recoverNetwork serves a ready pod's network again.
func (r *Runtime) recoverNetwork(ctx context.Context, p *pod, rebooted bool) error {
	rec := p.record()
	if rec.Phase != store.SandboxReady {
		return nil
	}
	if rebooted {
		return r.loseNetwork(p)
	}
	err := r.openNetwork(ctx, p)
	if errors.Is(err, netns.ErrGone) || errors.Is(err, errBadRecord) {
		return errors.Join(err, r.loseNetwork(p))
	}
	return err
}

// errBadRecord says that a record makes no sense.
var errBadRecord = errors.New("unusable record")

// openNetwork serves a network that is there.
func (r *Runtime) openNetwork(ctx context.Context, p *pod) error {
	var saved netns.Record
	if err := json.Unmarshal(p.record().Network, &saved); err != nil {
		return fmt.Errorf("%w of the network of sandbox %s: %w", errBadRecord, p.id, err)
	}
	n, err := r.Network.Open(ctx, saved)
	if err != nil {
		return err
	}
	p.setNetwork(n)
	return nil
}

// loseNetwork makes the sandbox NOTREADY, so that kubelet makes another one;
// its stop still undoes what is left, CNI's DEL above all.
func (r *Runtime) loseNetwork(p *pod) error {
	return r.updatePod(p, func(s *store.Sandbox) { s.Phase = store.SandboxStopping })
}

// resumePod finishes what the sandbox's phase announces, by the operations
// that kubelet's requests join.
func (r *Runtime) resumePod(ctx context.Context, p *pod) error {
	switch p.record().Phase {
	case store.SandboxCreating:
		_, err := r.ops.join(ctx, "give up sandbox "+p.id, undoLimit, func(ctx context.Context) (string, error) {
			return "", r.giveUpSandbox(ctx, p)
		})
		return err
	case store.SandboxStopping:
		return r.StopSandbox(ctx, p.id)
	case store.SandboxRemoving:
		return r.RemoveSandbox(ctx, p.id)
	}
	return nil
}

// recoverVM brings one container to a phase in which it can rest.
func (r *Runtime) recoverVM(ctx context.Context, v *vm, rebooted bool) error {
	switch phase := v.record().Phase; phase {
	case store.ContainerCreating:
		return r.giveUpContainer(ctx, v)
	case store.ContainerStarting:
		return r.failStart(ctx, v, errors.New("the daemon was restarted before the VM ran"))
	case store.ContainerRunning, store.ContainerStopping:
		if rebooted {
			r.Observer.VMRecovered(RecoveryEnded)
			return r.recordLost(ctx, v, exit{exitKilled, reasonNodeReboot, "the node was rebooted"}, time.Now())
		}
		return r.adopt(ctx, v)
	case store.ContainerExited:
		return r.clean(ctx, v)
	case store.ContainerRemoving:
		if err := r.deleteVMFiles(ctx, v); err != nil {
			return err
		}
		return r.dropVM(v)
	}
	return nil
}

// adopt takes over a VM that an earlier daemon started, or finds out how it
// ended. One that cannot be adopted is shown as UNKNOWN, which makes kubelet
// stop it: nobody would notice its end.
func (r *Runtime) adopt(ctx context.Context, v *vm) error {
	m, err := r.adoptMachine(ctx, v)
	var gone *qemu.GoneError
	if errors.As(err, &gone) {
		r.Observer.VMRecovered(RecoveryEnded)
		return r.recordMissed(ctx, v, gone.Ending)
	}
	if err != nil {
		r.Observer.VMRecovered(RecoveryFailed)
		v.setLost()
		r.Changed()
		return fmt.Errorf("container %s: %w", v.id, err)
	}
	r.Observer.VMRecovered(RecoveryAdopted)
	v.setRunning(m, r.reopenConsoles(v, m))
	r.watch(v)
	return r.proceed(ctx, v, m)
}

func (r *Runtime) adoptMachine(ctx context.Context, v *vm) (*qemu.Machine, error) {
	var id qemu.Identity
	if err := json.Unmarshal(v.record().Process, &id); err != nil {
		return nil, fmt.Errorf("%w of the process: %w", errBadRecord, err)
	}
	return qemu.Adopt(ctx, id, r.adoptOptions(v))
}

// reopenConsoles does what can be done: neither a log that cannot be written
// nor a debug socket that cannot be made is a reason to lose the VM.
func (r *Runtime) reopenConsoles(v *vm, m *qemu.Machine) *consoles {
	log, err := r.openLog(v, nil)
	if err != nil {
		r.vmLog(v).Error("log of an adopted VM", "error", err)
	}
	c := r.openConsoles(v, log)
	if err := r.openDebug(v, c, m); err != nil {
		r.vmLog(v).Error("debug socket of an adopted VM", "error", err)
	}
	return c
}

// proceed does for an adopted VM what its phase announces.
func (r *Runtime) proceed(ctx context.Context, v *vm, m *qemu.Machine) error {
	if v.record().Phase == store.ContainerStopping {
		left := max(time.Until(v.record().StopBy), 0)
		r.wg.Go(func() {
			if err := m.Stop(r.background, left); err != nil && r.background.Err() == nil {
				r.vmLog(v).Error("resuming a stop", "error", err)
			}
		})
		return nil
	}
	if !m.Responsive() {
		r.vmLog(v).Warn("an adopted VM's monitor does not answer; it can still be stopped by force")
		return nil
	}
	status, err := m.QMP().QueryStatus(ctx)
	if err != nil && !m.Responsive() {
		return nil // it is ending, which the watcher sees
	}
	if err == nil && status.Status == qmp.RunStateIOError {
		r.tell(v.pod, NoticeDiskFull, "the guest is paused: one of its disks could not grow, the node's file system was full; make room, then let the guest go on")
	}
	if err == nil && status.Status == qmp.RunStatePrelaunch {
		// The daemon died between recording the VM and continuing it.
		if err = m.Cont(ctx); err != nil {
			err = errors.Join(err, m.Kill())
		}
	}
	return err
}

// adoptOptions are what the VM was started with. Without its cgroup only the
// attribution of an end to a lack of memory is lost.
func (r *Runtime) adoptOptions(v *vm) qemu.AdoptOptions {
	dir := r.runDir(v.id)
	group, err := qemu.LoadCgroup(v.record().CgroupPath)
	if err != nil {
		r.vmLog(v).Warn("cgroup of a VM", "error", err)
	}
	return qemu.AdoptOptions{RunDir: dir, Log: filepath.Join(dir, qemuLog), Cgroup: group}
}

// recordMissed records an end that nobody watched, as far as QEMU's own log
// tells it.
func (r *Runtime) recordMissed(ctx context.Context, v *vm, ending qemu.Ending) error {
	if ending.Time.IsZero() {
		ending.Time = time.Now()
	}
	return r.recordLost(ctx, v, exitOf(ending), ending.Time)
}

func (r *Runtime) recordLost(ctx context.Context, v *vm, x exit, at time.Time) error {
	if err := r.finishLog(ctx, v); err != nil {
		r.vmLog(v).Warn("finishing the console log", "error", err)
	}
	// The record first, for the reason is in a file that is deleted then.
	err := r.endVM(v, func(c *store.Container) {
		c.Finished, c.ExitCode, c.Reason, c.Message = at, x.code, x.reason, x.message
	})
	if err := r.clean(ctx, v); err != nil {
		r.vmLog(v).Error("cleaning up behind a VM", "error", err)
	}
	return err
}

// finishLog writes what the VM said while nobody listened.
func (r *Runtime) finishLog(ctx context.Context, v *vm) error {
	log, err := r.openLog(v, nil)
	if err != nil {
		return err
	}
	return errors.Join(log.Finish(ctx), log.Close())
}
