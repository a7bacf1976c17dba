package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

// plan is the exact machine that a start will spawn.
type plan struct {
	spec      *vmpod.VM
	volumes   *volumes
	inv       qemu.Invocation
	resources *specs.LinuxResources
}

// launch spawns the paused machine. On an error whatever it left is found
// through the record: the cgroup and the run directory.
func (r *Runtime) launch(ctx context.Context, v *vm, plan *plan) (*qemu.Machine, error) {
	if err := r.grantVFs(v.pod.network(), plan.spec.MemoryBytes); err != nil {
		return nil, err
	}
	var group *qemu.Cgroup
	var g errgroup.Group
	// There are many hierarchies to make it in, with version 1.
	g.Go(func() (err error) {
		group, err = qemu.CreateCgroup(v.record().CgroupPath, plan.resources)
		return err
	})
	files, err := r.openFiles(v, plan)
	defer closeAll(files)
	if err = errors.Join(err, g.Wait()); err != nil {
		return nil, err
	}
	if err := r.makeRoom(ctx, v, group, plan.resources); err != nil {
		return nil, err
	}
	// gofail: var containerCgroup struct{}
	return r.spawn(ctx, v, plan, files, group)
}

// makeRoom sees to it that the pod's own cgroup has room for QEMU beside a guest
// that uses all of its RAM: without an overhead of a RuntimeClass, which many
// manifests do not name, kubelet has made none.
func (r *Runtime) makeRoom(ctx context.Context, v *vm, group *qemu.Cgroup, own *specs.LinuxResources) error {
	pod := vmpod.PodMemory(v.pod.config().GetLinux())
	if pod == 0 || v.pod.config().GetLinux().GetCgroupParent() == "" {
		return nil
	}
	raised, err := group.RaiseParent(ctx, pod, *own.Memory.Limit)
	if err != nil {
		return fmt.Errorf("memory limit of the pod's cgroup: %w", err)
	}
	if raised {
		r.vmLog(v).Info("the pod's memory limit was raised, it had no room for QEMU beside the guest", "from", pod, "to", *own.Memory.Limit)
	}
	return nil
}

func (r *Runtime) plan(ctx context.Context, v *vm) (*plan, error) {
	state, err := r.Hypervisor.Ready(ctx)
	if err != nil {
		return nil, err
	}
	spec, err := vmpod.Parse(v.pod.config(), v.record().Config.M)
	if err != nil {
		return nil, err
	}
	if err := checkHugePages(hugePagesDir, spec); err != nil {
		return nil, err
	}
	vols, err := r.volumesOf(v, spec)
	if err != nil {
		return nil, err
	}
	if err := vols.root.readBacking(); err != nil {
		return nil, err
	}
	inv, err := qemu.Build(r.machineConfig(v, spec, vols, state), state.Capabilities)
	if err != nil {
		return nil, err
	}
	r.tellAccel(v, state)
	resources := spec.Resources(string(state.Accel.Accel), tbSizeMiB)
	if changed := v.record().Resources; changed != nil {
		resources.CPU = vmpod.CgroupResources(changed.M, 0).CPU
	}
	return &plan{spec: spec, volumes: vols, inv: inv, resources: resources}, nil
}

func (r *Runtime) spawn(ctx context.Context, v *vm, plan *plan, files map[string]*os.File, group *qemu.Cgroup) (*qemu.Machine, error) {
	dir := r.runDir(v.id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return qemu.Start(ctx, plan.inv, qemu.StartOptions{
		RunDir:     dir,
		Log:        filepath.Join(dir, qemuLog),
		Files:      files,
		Credential: r.Credential,
		Cgroup:     group,
		Stepped:    r.startStepped(ctx),
	})
}

// startStepped makes phases of the steps of a start.
func (r *Runtime) startStepped(ctx context.Context) func(string, time.Time, time.Time, error) {
	phases := map[string]Phase{qemu.StepExec: PhaseSpawn, qemu.StepHandshake: PhaseQMP}
	return func(step string, begin, end time.Time, err error) {
		if phase, known := phases[step]; known {
			r.phaseEnded(ctx, phase, begin, end, err)
		}
	}
}

// openFiles opens what the invocation asks for. What was opened is returned
// also on an error, for the caller to close.
func (r *Runtime) openFiles(v *vm, plan *plan) (map[string]*os.File, error) {
	files := map[string]*os.File{}
	for _, need := range plan.inv.Files {
		if files[need.Name] != nil {
			continue // a queue of a tap that is open already
		}
		if err := r.openFile(v, plan.volumes, need, files); err != nil {
			return files, fmt.Errorf("%s: %w", need.Name, err)
		}
	}
	return files, nil
}

func (r *Runtime) openFile(v *vm, vols *volumes, need qemu.FileNeed, files map[string]*os.File) error {
	kind, rest, _ := strings.Cut(need.Name, ":")
	switch kind {
	case "tap":
		return openTaps(v.pod.network(), rest, files)
	case "share":
		f, err := r.openShare(vols, rest)
		if err == nil {
			files[need.Name] = f
		}
		return err
	}
	f, err := r.openOwn(v, vols, need)
	if err == nil {
		files[need.Name] = f
	}
	return err
}

// openOwn opens what the VM has to itself.
func (r *Runtime) openOwn(v *vm, vols *volumes, need qemu.FileNeed) (*os.File, error) {
	kind, id, _ := strings.Cut(need.Name, ":")
	if disk := vols.byID(id); disk != nil && kind == "disk" {
		return disk.open(need)
	}
	if disk := vols.byID(id); disk != nil && kind == "secret" {
		return r.openKey(disk.key)
	}
	path, err := r.pathOf(v, need.Name)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, need.OpenFlags(), 0)
}

var errUnknownFile = errors.New("no file is known by this name")

// pathOf is the file behind a name that machineConfig gave.
func (r *Runtime) pathOf(v *vm, name string) (string, error) {
	dir := r.vmDir(v.pod.uid(), v.id)
	if strings.HasPrefix(name, "vhost:") {
		return vhostDevice, nil
	}
	switch name {
	case qemu.BackingFile(rootDisk, 0):
		return r.Images.DataPath(v.pod.record().Base), nil
	case qemu.DiskFile(seedDisk):
		return filepath.Join(dir, seedFile), nil
	case qemu.FileConsoleLog:
		return filepath.Join(dir, consoleFile), nil
	}
	return "", errUnknownFile
}

// openTaps opens all queues of a NIC, whose ID is "net<n>".
func openTaps(n *netns.Network, name string, files map[string]*os.File) error {
	nic, _, _ := strings.Cut(name, ":")
	i, err := strconv.Atoi(strings.TrimPrefix(nic, "net"))
	if err != nil {
		return err
	}
	if n == nil {
		return errors.New("the pod has no network")
	}
	links := n.Interfaces()
	if i < 0 || i >= len(links) {
		return fmt.Errorf("the pod has %d interfaces", len(links))
	}
	queues, err := n.OpenTap(i, links[i].Queues)
	if err != nil {
		return err
	}
	for q, f := range queues {
		files[fmt.Sprintf("tap:%s:%d", nic, q)] = f
	}
	return nil
}

func closeAll[C io.Closer](all map[string]C) {
	for _, c := range all {
		_ = c.Close()
	}
}
