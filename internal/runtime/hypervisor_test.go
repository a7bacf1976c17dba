package runtime

import (
	"context"
	"errors"
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
