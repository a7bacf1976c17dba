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
)

// Recover reads the records and makes the world agree with them: it adopts
// the VMs that run, records how those that do not have ended, and finishes or
// undoes what the last daemon was in the middle of. A pod that cannot be
// recovered is logged and left to kubelet's clean-up; it never holds up the
// others. Recover is called once, before anything else.
func (r *Runtime) Recover(ctx context.Context) error {
	rebooted, err := r.load()
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(recoverParallel)
	for _, p := range r.allPods() {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, recoverLimit)
			defer cancel()
			if err := r.recoverPod(ctx, p, rebooted); err != nil {
				r.Log.Error("recovering a pod", "sandbox", p.id, "pod", sandboxName(p.config()), "error", err)
			}
			return nil
		})
	}
	_ = g.Wait()
	return nil
}

// load reads the records, and whether they are from an earlier boot.
func (r *Runtime) load() (rebooted bool, err error) {
	boot, err := currentBoot()
	if err != nil {
		return false, err
	}
	last, err := r.DB.BootID()
	if err != nil {
		return false, err
	}
	sandboxes, err := r.DB.Sandboxes()
	if err != nil {
		r.Log.Error("records that cannot be read are left alone", "error", err)
	}
	for _, rec := range sandboxes {
		r.addPod(newPod(rec))
	}
	containers, err := r.DB.Containers()
	if err != nil {
		r.Log.Error("records that cannot be read are left alone", "error", err)
	}
	for _, rec := range containers {
		p, err := r.pod(rec.SandboxID)
		if err != nil {
			r.Log.Error("container without its sandbox", "container", rec.ID, "sandbox", rec.SandboxID)
			continue
		}
		r.addVM(newVM(p, rec))
	}
	return last != "" && last != boot, r.DB.SetBootID(boot)
}

func currentBoot() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw)), err
}

func (r *Runtime) recoverPod(ctx context.Context, p *pod, rebooted bool) error {
	p.lock.mustAcquire()
	err := r.recoverNetwork(ctx, p, rebooted)
	var errs []error
	for _, v := range r.vmsOf(p) {
		errs = append(errs, r.recoverVM(ctx, v, rebooted))
	}
	p.lock.release()
	return errors.Join(append(errs, err, r.resumePod(ctx, p))...)
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
	var saved netns.Record
	if err := json.Unmarshal(rec.Network, &saved); err != nil {
		return errors.Join(fmt.Errorf("record of the pod's network: %w", err), r.loseNetwork(p))
	}
	n, err := r.Network.Open(ctx, saved)
	if errors.Is(err, netns.ErrGone) {
		return errors.Join(err, r.loseNetwork(p))
	}
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

// resumePod finishes what the sandbox's phase announces. The stop of a pod
// that lost its network is left to kubelet, which wants to see it.
func (r *Runtime) resumePod(ctx context.Context, p *pod) error {
	switch p.record().Phase {
	case store.SandboxCreating:
		return r.giveUpSandbox(ctx, p)
	case store.SandboxStopping:
		return r.stopSandbox(ctx, p)
	case store.SandboxRemoving:
		return r.removeSandbox(ctx, p)
	}
	return nil
}

// recoverVM brings one container to a phase in which it can rest.
func (r *Runtime) recoverVM(ctx context.Context, v *vm, rebooted bool) error {
	switch phase := v.record().Phase; phase {
	case store.ContainerCreating:
		return r.giveUpContainer(v)
	case store.ContainerStarting:
		return r.failStart(ctx, v, errors.New("the daemon was restarted before the VM ran"))
	case store.ContainerRunning, store.ContainerStopping:
		if rebooted {
			return r.recordLost(ctx, v, exit{exitKilled, reasonNodeReboot, "the node was rebooted"}, time.Now())
		}
		return r.adopt(ctx, v)
	case store.ContainerRemoving:
		if err := r.deleteVMFiles(v); err != nil {
			return err
		}
		return r.dropVM(v)
	}
	return nil
}

// adopt takes over a VM that an earlier daemon started, or finds out how it
// ended.
func (r *Runtime) adopt(ctx context.Context, v *vm) error {
	var id qemu.Identity
	if err := json.Unmarshal(v.record().Process, &id); err != nil {
		return fmt.Errorf("record of the process: %w", err)
	}
	m, err := qemu.Adopt(ctx, id, r.adoptOptions(v))
	var gone *qemu.GoneError
	if errors.As(err, &gone) {
		return r.recordMissed(ctx, v, gone.Ending)
	}
	if err != nil {
		return err
	}
	c, err := r.openConsoles(v, m)
	if err != nil {
		// A log that cannot be written is no reason to lose the VM.
		r.Log.Error("console of an adopted VM", "container", v.id, "error", err)
	}
	v.setRunning(m, c)
	r.watch(v)
	return r.proceed(ctx, v, m)
}

// proceed does for an adopted VM what its phase announces.
func (r *Runtime) proceed(ctx context.Context, v *vm, m *qemu.Machine) error {
	if v.record().Phase == store.ContainerStopping {
		left := max(time.Until(v.record().StopBy), 0)
		r.wg.Go(func() {
			if err := m.Stop(r.background, left); err != nil && r.background.Err() == nil {
				r.Log.Error("resuming a stop", "container", v.id, "error", err)
			}
		})
		return nil
	}
	if !m.Responsive() {
		r.Log.Warn("an adopted VM's monitor does not answer; it can still be stopped by force", "container", v.id)
		return nil
	}
	status, err := m.QMP().QueryStatus(ctx)
	if err == nil && status.Status == qmp.RunStatePrelaunch {
		// The daemon died between recording the VM and continuing it.
		err = m.Cont(ctx)
	}
	return err
}

// adoptOptions are what the VM was started with. Without its cgroup only the
// attribution of an end to a lack of memory is lost.
func (r *Runtime) adoptOptions(v *vm) qemu.AdoptOptions {
	dir := r.runDir(v.id)
	group, err := qemu.LoadCgroup(v.record().CgroupPath)
	if err != nil {
		r.Log.Warn("cgroup of a VM", "container", v.id, "error", err)
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
		r.Log.Warn("finishing the console log", "container", v.id, "error", err)
	}
	if err := r.clean(ctx, v); err != nil {
		r.Log.Error("cleaning up behind a VM", "container", v.id, "error", err)
	}
	return r.updateVM(v, store.ContainerExited, func(c *store.Container) {
		c.Finished, c.ExitCode, c.Reason, c.Message = at, x.code, x.reason, x.message
		c.Process = nil
	})
}

// finishLog writes what the VM said while nobody listened.
func (r *Runtime) finishLog(ctx context.Context, v *vm) error {
	log, err := r.openLog(v)
	if err != nil {
		return err
	}
	return errors.Join(log.Finish(ctx), log.Close())
}
