package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/qemu"
)

func TestHypervisorNotThere(t *testing.T) {
	h := &Hypervisor{Binary: "/nowhere/qemu", Mode: qemu.AccelTCG}
	if _, err := h.Ready(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}

// Who asks about the node's state is not held up for longer than it wants by
// somebody else's question.
func TestHypervisorHonoursContext(t *testing.T) {
	h := &Hypervisor{Binary: "/nowhere/qemu"}
	h.once.Do(func() { h.asking = newLock() })
	h.asking.mustAcquire()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := h.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// The kernel module of KVM may be loaded, and udev may set the device's group, when
// the daemon runs already.
func TestKVMMayComeLate(t *testing.T) {
	decisions := 0
	h := &Hypervisor{Binary: "qemu-system-x86_64", Mode: qemu.AccelAuto, Device: filepath.Join(t.TempDir(), "kvm"), CacheDir: t.TempDir(),
		Decided: func(qemu.Capabilities, qemu.AccelDecision) { decisions++ }}
	asked := func(what string, want int) {
		t.Helper()
		for range 2 {
			if _, err := h.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if decisions != want {
			t.Errorf("%s: decided %d times, want %d", what, decisions, want)
		}
	}
	asked("without a device", 1)
	if err := os.WriteFile(h.Device, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	asked("the device has come", 2)
	if err := os.Chmod(h.Device, 0o660); err != nil {
		t.Fatal(err)
	}
	asked("its group may use it", 3)
}
