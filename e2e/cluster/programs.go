package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qemulet/qemulet/e2e/node"
)

func program(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join(node.Top(), "bin", name)
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("%s is not built: run \"make cluster-programs\"", path)
	}
	return path
}
