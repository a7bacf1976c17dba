package runtime

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/qemu"
)

// Hypervisor is the node's QEMU: what its binary can do, and with which
// accelerator. It is asked anew when the binary changes, so that installing or
// upgrading QEMU needs no restart of the daemon; and when KVM's device does, which
// may appear, or be given to its group, after the daemon has started with the
// host. Its methods may be called
// concurrently.
type Hypervisor struct {
	// Binary is a path or a name to look for in PATH.
	Binary string
	// CacheDir keeps the answers of the binary and of the accelerator's trial.
	CacheDir string
	Mode     qemu.AccelMode
	// Device is KVM's, "" for qemu.KVMDevice.
	Device string
	// Credential is what QEMU will run as.
	Credential *syscall.Credential
	// Decided is told of each new decision.
	Decided func(qemu.Capabilities, qemu.AccelDecision)

	// asking is held by who asks, which takes a while; mu guards the fields.
	once   sync.Once
	asking lock
	mu     sync.Mutex
	known  *HypervisorState
	binary os.FileInfo
	device qemu.DeviceAccess
}

// HypervisorState is what a Hypervisor has found out.
type HypervisorState struct {
	Capabilities qemu.Capabilities
	Accel        qemu.AccelDecision
}

// Ready returns what the binary can do, or why no VM can be started: an error
// of the class errdefs.ErrUnavailable.
func (h *Hypervisor) Ready(ctx context.Context) (*HypervisorState, error) {
	if known := h.unchanged(); known != nil {
		return known, nil
	}
	h.once.Do(func() { h.asking = newLock() })
	if err := h.asking.acquire(ctx, "QEMU binary "+h.Binary); err != nil {
		return nil, err
	}
	defer h.asking.release()
	if known := h.unchanged(); known != nil {
		return known, nil // another one has asked
	}
	device := h.deviceAccess() // before it is tried: what changes meanwhile counts
	known, err := h.ask(ctx)
	if err != nil {
		return nil, fmt.Errorf("no VM can be started on this node: %w: %w", err, errdefs.ErrUnavailable)
	}
	h.remember(known, device)
	if h.Decided != nil {
		h.Decided(known.Capabilities, known.Accel)
	}
	return known, nil
}

func (h *Hypervisor) remember(known *HypervisorState, device qemu.DeviceAccess) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known, h.device = known, device
	h.binary, _ = os.Stat(known.Capabilities.Binary)
}

// deviceAccess is who may use KVM's device now. Where KVM is not wanted, that does
// not matter.
func (h *Hypervisor) deviceAccess() qemu.DeviceAccess {
	if h.Mode == qemu.AccelTCG {
		return qemu.DeviceAccess{}
	}
	access, _ := qemu.AccessOf(cmp.Or(h.Device, qemu.KVMDevice))
	return access
}

// unchanged returns what is known, nil if that is nothing, or of another binary or
// device.
func (h *Hypervisor) unchanged() *HypervisorState {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known == nil || h.binary == nil || h.device != h.deviceAccess() {
		return nil
	}
	now, err := os.Stat(h.known.Capabilities.Binary)
	if err != nil || !os.SameFile(now, h.binary) || !now.ModTime().Equal(h.binary.ModTime()) || now.Size() != h.binary.Size() {
		return nil
	}
	return h.known
}

func (h *Hypervisor) ask(ctx context.Context) (*HypervisorState, error) {
	caps, err := qemu.Probe(ctx, h.Binary, h.CacheDir)
	if err != nil {
		return nil, err
	}
	accel, err := qemu.DecideAccel(ctx, h.Mode, qemu.AccelOptions{
		Binary: caps.Binary, CacheDir: h.CacheDir, Credential: h.Credential, Device: h.Device,
	})
	if err != nil {
		return nil, err
	}
	return &HypervisorState{Capabilities: caps, Accel: accel}, nil
}
