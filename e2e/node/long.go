package node

import (
	"os"
	"testing"
)

// NeedLong skips a test that belongs to "make e2e", which sets the variable, and not to "make test". Such tests of package e2e have names
// that begin with TestLong.
func NeedLong(tb testing.TB) {
	tb.Helper()
	if os.Getenv("QEMULET_E2E_LONG") == "" {
		tb.Skip("runs in \"make e2e\"")
	}
}
