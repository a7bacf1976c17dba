package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

// parallelStats is how many VMs are measured at the same time: the kernel counts
// for each of them.
const parallelStats = 4

// Usage is what a VM's processes have used.
type Usage = qemu.CgroupUsage

// NICStats are the counters of a NIC.
type NICStats = netns.InterfaceStats

// Stats is what a VM has used.
type Stats struct {
	Container Container
	// Time is when the numbers were read.
	Time time.Time
	// Usage is the VM's cgroup's: QEMU with the guest in it. It is zero when
	// the VM does not run.
	Usage Usage
	// DiskBytes is what the VM's own files occupy on the node, such as the part
	// of the root disk that differs from the image; Inodes is their number.
	DiskBytes, Inodes uint64
}

// Stats measures one VM. errdefs.ErrNotFound when there is none.
func (r *Runtime) Stats(id string) (Stats, error) {
	v, err := r.vm(id)
	if err != nil {
		return Stats{}, err
	}
	s, err := r.statsOf(v)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil // it ends at this moment
	}
	return s, err
}

// RunningStats measures all VMs that run and that want picks. No guest and no
// QEMU is asked, so one that hangs does not delay the others; one that ends at
// this moment is left out.
func (r *Runtime) RunningStats(want func(Container) bool) []Stats {
	running := slices.DeleteFunc(r.allVMs(), func(v *vm) bool {
		return v.record().Phase != store.ContainerRunning || !want(r.containerOf(v))
	})
	all := make([]Stats, len(running))
	var g errgroup.Group
	g.SetLimit(parallelStats)
	for i, v := range running {
		g.Go(func() error {
			all[i] = r.tryStats(v)
			return nil
		})
	}
	_ = g.Wait() // none fails
	return slices.DeleteFunc(all, func(s Stats) bool { return s.Time.IsZero() })
}

// tryStats are zero for a VM that ends at this moment or cannot be measured.
func (r *Runtime) tryStats(v *vm) Stats {
	s, err := r.statsOf(v)
	if err == nil {
		return s
	}
	if !errors.Is(err, fs.ErrNotExist) {
		r.vmLog(v).Warn("a VM cannot be measured", "error", err)
	}
	return Stats{}
}

func (r *Runtime) statsOf(v *vm) (s Stats, err error) {
	s = Stats{Container: r.containerOf(v), Time: time.Now()}
	if v.live() {
		var group *qemu.Cgroup
		if group, err = qemu.LoadCgroup(v.record().CgroupPath); err != nil {
			return s, err
		}
		if s.Usage, err = group.Usage(); err != nil {
			return s, err
		}
	}
	return s, r.measureDisk(v, &s)
}

// NetworkStats are the counters of a pod's NICs as its guest would count them,
// the default one first; none if the pod has no network. errdefs.ErrNotFound
// when there is no such sandbox. That a network is gone is noticed by the way.
func (r *Runtime) NetworkStats(ctx context.Context, sandboxID string) ([]NICStats, error) {
	p, err := r.pod(sandboxID)
	if err != nil {
		return nil, err
	}
	n := p.network()
	if n == nil {
		return nil, nil
	}
	all, err := n.Stats(ctx)
	if errors.Is(err, netns.ErrGone) && p.record().Phase == store.SandboxReady {
		// Not all that takes a namespace away is seen as it happens. Nobody waits for it.
		_, _ = r.ops.enter(ctx, "lost network of "+p.id, undoLimit, func(context.Context) (string, error) {
			r.lostNetwork(p, err)
			return "", nil
		})
	}
	return all, err
}

// measureDisk counts the files of the VM and those of its pod that are the
// VM's: one pod has one VM.
func (r *Runtime) measureDisk(v *vm, s *Stats) error {
	for _, dir := range []string{r.podDir(v.pod.uid()), r.vmDir(v.pod.uid(), v.id)} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			info, err := os.Lstat(filepath.Join(dir, e.Name()))
			if err != nil || info.IsDir() {
				continue // it has just gone, or is counted by itself
			}
			s.DiskBytes += blocks(info)
			s.Inodes++
		}
	}
	return nil
}

// blocks is how many bytes a file occupies; sparse files occupy less than
// their size.
func blocks(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Blocks) * 512 // stat(2): whatever the block size is
	}
	return uint64(info.Size())
}
