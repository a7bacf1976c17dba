package runtime

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/internal/console"
	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
)

// errUnavailable is returned while the daemon shuts down.
var errUnavailable = errdefs.ErrUnavailable

// Bounds for operations that no request waits for any more. Those of kubelet
// (4 minutes for a sandbox, 2 for the rest) are longer, so it hears the cause.
const (
	sandboxLimit = 3*time.Minute + 30*time.Second
	createLimit  = 100 * time.Second
	// prepareLimit is for a VM whose root device is to be written first; kubelet
	// asks again, and joins.
	prepareLimit = 30 * time.Minute
	startLimit   = 100 * time.Second
	removeLimit  = 100 * time.Second
	// undoLimit bounds a clean-up, which has a context of its own.
	undoLimit = time.Minute
)

// Options are what a Runtime is made of. It owns none of them: the caller
// closes DB after the Runtime.
type Options struct {
	DB         *store.DB
	Images     *images.Store
	Network    *netns.Manager
	Hypervisor *Hypervisor
	// Objects has the ConfigMaps and Secrets that annotations name.
	Objects kube.Source
	// Watcher wakes the console logs.
	Watcher *console.Watcher
	// RunDir holds sockets and is emptied by a reboot; StateDir is not.
	RunDir, StateDir string
	// NetnsDir is where network namespaces are pinned.
	NetnsDir string
	// CNIGC lets CNI plugins release, at the start, what pods of no record
	// hold: only where no other runtime uses the same networks.
	CNIGC bool
	// VhostNet lets the kernel move the packets of VMs where it can.
	VhostNet bool
	// KubeletPods is kubelet's directory of pods, with their FlexVolumes.
	KubeletPods string
	// RawDevices are what FlexVolumes of the type raw may name.
	RawDevices disks.Whitelist
	// Credential is what QEMU runs as; nil means the daemon's own user.
	Credential *syscall.Credential
	// DefaultCPUModel is used by pods that name no CPU model.
	DefaultCPUModel string
	// DebugCommands are what the debug sockets relay; empty means DebugRead.
	DebugCommands DebugCommands
	Log           *slog.Logger
	// Tell is told what the owners of pods should know; it must not block. nil
	// tells nobody.
	Tell func(Notice)
	// Observer counts what happens; nil counts nothing.
	Observer Observer
	// Changed is called after each change to what Sandboxes and Containers
	// return, before the operation that made it ends. It must not block. nil
	// calls nobody.
	Changed func()
}

// Runtime is the life of all VM pods of a node. Its methods may be called
// concurrently. Recover comes first, Close last.
type Runtime struct {
	Options
	// adjusted is what Adjust set, nil before.
	adjusted atomic.Pointer[Adjustable]

	ops    operations
	events events

	// mu guards the two maps, not what is in them.
	mu   sync.RWMutex
	pods map[string]*pod
	vms  map[string]*vm

	// dirs is held while it matters that no sandbox of a pod comes or goes,
	// because its sandboxes share a directory.
	dirs sync.Mutex
	// injections has a place for each machine that writes into a root disk.
	injections chan struct{}
	// roots is held while a VM claims the device of its persistent root disk.
	roots sync.Mutex

	// background ends with Close; it carries what belongs to no operation.
	background context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// New makes a Runtime. It touches nothing yet but the two directories.
func New(o Options) (*Runtime, error) {
	for _, dir := range []string{filepath.Join(o.RunDir, "vm"), filepath.Join(o.StateDir, "pods")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	r := &Runtime{Options: o, injections: make(chan struct{}, maxInjections), pods: map[string]*pod{}, vms: map[string]*vm{}}
	r.ops.onPanic = func(key string, p any, stack []byte) {
		r.Observer.Panicked()
		r.Log.Error("panic in an operation", "operation", key, "panic", p, "stack", string(stack))
	}
	r.background, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Close waits for running operations until ctx ends and releases everything
// that belongs to the daemon. Guests run on; Recover of the next daemon finds
// them.
func (r *Runtime) Close(ctx context.Context) error {
	r.ops.drain(ctx)
	r.cancel()
	// First, so that an end that has been noticed is recorded with its log.
	r.wg.Wait()
	var errs []error
	for _, v := range r.allVMs() {
		errs = append(errs, v.release())
	}
	for _, p := range r.allPods() {
		errs = append(errs, p.release())
	}
	return errors.Join(errs...)
}

func (r *Runtime) allPods() []*pod {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*pod, 0, len(r.pods))
	for _, p := range r.pods {
		all = append(all, p)
	}
	return all
}

func (r *Runtime) allVMs() []*vm {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*vm, 0, len(r.vms))
	for _, v := range r.vms {
		all = append(all, v)
	}
	return all
}

// Paths. The directory of a pod belongs to its UID, which outlives a sandbox
// that kubelet replaces; that of a VM belongs to one container.

func (r *Runtime) podDir(uid string) string { return filepath.Join(r.StateDir, "pods", uid) }

func (r *Runtime) vmDir(uid, id string) string { return filepath.Join(r.podDir(uid), ids.Short(id)) }

func (r *Runtime) runDir(id string) string { return filepath.Join(r.RunDir, "vm", ids.Short(id)) }

// undo is for cleaning up behind a failure: the request's context may be what failed.
func undo(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
}
