package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"

	"github.com/qemulet/qemulet/qemu"
)

// finishLimit bounds what is done between the death of a process and the
// record of its end.
const finishLimit = 30 * time.Second

// watch waits for the VM's end and records it. It is the only place where a
// supervised VM becomes EXITED.
func (r *Runtime) watch(v *vm) {
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		m, _, _ := v.running()
		r.follow(v, m)
	}()
}

// follow tells the news of a machine until its end, or the daemon's.
func (r *Runtime) follow(v *vm, m *qemu.Machine) {
	var news <-chan goqemu.Event
	var seen resets
	if s := subscribeNews(m); s != nil {
		defer s.Close()
		news = s.C
	}
	for {
		select {
		case e, more := <-news:
			if !more {
				news = nil // the monitor is closed; the end is near
				continue
			}
			r.tellNews(v, m, &seen, e)
		case <-m.Done():
			r.finish(v, m.Ending())
			return
		case <-r.background.Done():
			return
		}
	}
}

// finish cleans up behind a dead process and records how it ended.
func (r *Runtime) finish(v *vm, ending qemu.Ending) {
	ctx, cancel := context.WithTimeout(context.Background(), finishLimit)
	defer cancel()
	v.pod.lock.mustAcquire()
	defer v.pod.lock.release()
	// gofail: var containerEnded struct{}
	r.endConsoles(ctx, v)
	// The record comes before the clean-up, which deletes QEMU's log, where the
	// next daemon would look.
	// gofail: var containerLogged struct{}
	if err := r.endVM(v, recordExit(ending)); err != nil {
		r.vmLog(v).Error("recording the end of a VM", "error", err)
	}
	// gofail: var containerEndRecorded struct{}
	if err := r.clean(ctx, v); err != nil {
		// The removal tries again.
		r.vmLog(v).Error("cleaning up behind a VM", "error", err)
	}
	// gofail: var containerCleaned struct{}
	rec := v.record()
	r.vmLog(v).Info("VM ended", "reason", rec.Reason, "exitCode", rec.ExitCode, "message", rec.Message)
	v.clearRunning()
}

func (r *Runtime) endConsoles(ctx context.Context, v *vm) {
	m, c, _ := v.running()
	if c != nil {
		if err := c.finish(ctx); err != nil {
			r.vmLog(v).Warn("finishing the console log", "error", err)
		}
	}
	if m != nil {
		if err := m.Close(); err != nil {
			r.vmLog(v).Warn("closing the machine", "error", err)
		}
	}
}

// clean removes what only a running VM has: its cgroup, with whatever is
// still in it, and its sockets. It needs nothing but the record.
func (r *Runtime) clean(ctx context.Context, v *vm) error {
	if path := v.record().CgroupPath; path != "" {
		if err := deleteCgroup(ctx, path); err != nil {
			return err
		}
	}
	return os.RemoveAll(r.runDir(v.id))
}

// deleteCgroup kills what is in the cgroup and removes it, if it is there.
func deleteCgroup(ctx context.Context, path string) error {
	group, err := qemu.LoadCgroup(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return group.Delete(ctx)
}
