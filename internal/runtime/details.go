package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

// Details is where the parts of a VM are on the node.
type Details struct {
	// Config is the OCI document of the exact machine, nil before the first start.
	Config json.RawMessage
	// Machine is the versioned machine type, "" before the first start.
	Machine string
	// PID is QEMU's, 0 when there is none.
	PID int
	// CgroupPath and DebugSocket are the VM's, LogPath its CRI log.
	CgroupPath, DebugSocket, LogPath string
	// Interfaces are the pod's network as its guest has it.
	Interfaces []netns.Interface
	// Notes say what of the manifest had no effect.
	Notes []string
}

// Details tells of one VM. errdefs.ErrNotFound when there is none.
func (r *Runtime) Details(id string) (Details, error) {
	v, err := r.vm(id)
	if err != nil {
		return Details{}, err
	}
	rec := v.record()
	d := Details{
		Machine: rec.Machine, CgroupPath: rec.CgroupPath, Notes: rec.Notes,
		DebugSocket: filepath.Join(r.runDir(v.id), debugSocket),
		LogPath:     logPath(v.pod.config(), rec.Config.M),
	}
	if raw, err := os.ReadFile(filepath.Join(r.vmDir(v.pod.uid(), v.id), configFile)); err == nil && json.Valid(raw) {
		d.Config = raw
	}
	var process qemu.Identity
	if json.Unmarshal(rec.Process, &process) == nil {
		d.PID = process.PID
	}
	if n := v.pod.network(); n != nil {
		d.Interfaces = n.Interfaces()
	}
	return d, nil
}

// Drive is a drive of the guest as QEMU tells it.
type Drive = qmp.BlockDevice

// Answers is what QEMU tells of a VM.
type Answers struct {
	// Disks are the guest's drives, and DiskStats what went through each.
	Disks     []Drive
	DiskStats []qmp.BlockStats
	// Files are the paths on the node of what QEMU was handed open, by the names
	// that qemu.FileNeed gives: QEMU itself knows them as descriptors only.
	Files map[string]string
	CPUs  []qmp.CPU
	// BalloonBytes is the memory that the guest has now, 0 when it has no balloon.
	BalloonBytes int64
}

// Ask asks a running VM's QEMU, for as long as ctx allows. Of a VM that does not
// run there is nothing to tell, which is no error.
func (r *Runtime) Ask(ctx context.Context, id string) (a Answers, err error) {
	v, err := r.vm(id)
	if err != nil {
		return a, err
	}
	m, _, _ := v.running()
	if m == nil || !m.Responsive() || v.record().Phase != store.ContainerRunning {
		return a, nil
	}
	monitor := m.QMP()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { a.Disks, err = monitor.QueryBlock(ctx); return err })
	g.Go(func() (err error) { a.DiskStats, err = monitor.QueryBlockStats(ctx); return err })
	g.Go(func() (err error) { a.Files, err = openFiles(ctx, monitor, m.Identity().PID); return err })
	g.Go(func() (err error) { a.CPUs, err = monitor.QueryCPUsFast(ctx); return err })
	g.Go(func() (err error) {
		a.BalloonBytes, err = monitor.QueryBalloon(ctx)
		var refused *qmp.Error
		if errors.As(err, &refused) {
			return nil // there is no balloon
		}
		return err
	})
	return a, g.Wait()
}

// openFiles are the paths of the files in QEMU's descriptor sets, by their names.
func openFiles(ctx context.Context, monitor *qmp.Conn, pid int) (map[string]string, error) {
	sets, err := monitor.QueryFdsets(ctx)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, set := range sets {
		for _, fd := range set.FDs {
			if path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd.FD)); err == nil {
				files[fd.Opaque] = path
			}
		}
	}
	return files, nil
}
