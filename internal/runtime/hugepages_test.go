package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/vmpod"
)

func TestCheckHugePages(t *testing.T) {
	dir := t.TempDir()
	size := filepath.Join(dir, "hugepages-2048kB")
	if err := os.MkdirAll(size, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]string{"free_hugepages": "10", "resv_hugepages": "3", "nr_overcommit_hugepages": "5", "surplus_hugepages": "2"} {
		if err := os.WriteFile(filepath.Join(size, name), []byte(n+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		ram, page int64
		want      string
	}{
		{1 << 40, 0, ""},
		{20 << 20, 2 << 20, ""},
		{22 << 20, 2 << 20, "takes 11 huge pages of 2048 KiB, but 10 are free"},
		{1 << 30, 1 << 30, "no huge pages of 1048576 KiB; it has 2048kB"},
	} {
		err := checkHugePages(dir, &vmpod.VM{MemoryBytes: c.ram, HugePageBytes: c.page})
		if c.want == "" && err != nil || c.want != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d in %d: %v, want %q", c.ram, c.page, err, c.want)
		}
	}
	if err := checkHugePages(t.TempDir(), &vmpod.VM{MemoryBytes: 1 << 30, HugePageBytes: 2 << 20}); err == nil || !strings.Contains(err.Error(), "none of any size") {
		t.Error(err)
	}
}
