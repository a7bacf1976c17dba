package runtime

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestNoAgent(t *testing.T) {
	young, later, old := noAgent(time.Second), noAgent(2*time.Second), noAgent(bootLimit)
	if !errdefs.IsUnavailable(young) || !strings.Contains(young.Error(), "may still be booting") || young.Error() != later.Error() {
		t.Errorf("of a guest that boots: %v, and a second later: %v", young, later)
	}
	if !errdefs.IsUnavailable(old) || strings.Contains(old.Error(), "booting") {
		t.Errorf("of a guest that has booted: %v", old)
	}
}
