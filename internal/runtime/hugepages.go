package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/vmpod"
)

// hugePagesDir has a directory for each size of huge pages that the host knows
// (Documentation/admin-guide/mm/hugetlbpage.rst).
const hugePagesDir = "/sys/kernel/mm/hugepages"

// checkHugePages says early, and in Kubernetes' words, what QEMU would say late:
// that the node lacks the huge pages that the guest's RAM is to be made of.
func checkHugePages(dir string, spec *vmpod.VM) error {
	if spec.HugePageBytes == 0 {
		return nil
	}
	need := spec.MemoryBytes / spec.HugePageBytes
	size := filepath.Join(dir, fmt.Sprintf("hugepages-%dkB", spec.HugePageBytes>>10))
	if _, err := os.Stat(size); err != nil {
		return fmt.Errorf("resources.limits.hugepages: this node's kernel has no huge pages of %d KiB; it has %s: %w",
			spec.HugePageBytes>>10, hugePageSizes(dir), errdefs.ErrFailedPrecondition)
	}
	free, err := freeHugePages(size)
	if err != nil {
		return fmt.Errorf("huge pages: %w", err)
	}
	if free < need {
		return fmt.Errorf("resources.limits.hugepages: the guest's RAM takes %d huge pages of %d KiB, but %d are free on this node; its administrator reserves them in %s: %w",
			need, spec.HugePageBytes>>10, free, filepath.Join(size, "nr_hugepages"), errdefs.ErrFailedPrecondition)
	}
	return nil
}

func hugePageSizes(dir string) string {
	entries, _ := os.ReadDir(dir) // none: no sizes
	var sizes []string
	for _, e := range entries {
		sizes = append(sizes, strings.TrimPrefix(e.Name(), "hugepages-"))
	}
	if len(sizes) == 0 {
		return "none of any size"
	}
	return strings.Join(sizes, ", ")
}

// freeHugePages are those that nobody has or was promised, and those that the
// kernel may still make.
func freeHugePages(dir string) (int64, error) {
	var sum int64
	for name, sign := range map[string]int64{"free_hugepages": 1, "resv_hugepages": -1, "nr_overcommit_hugepages": 1, "surplus_hugepages": -1} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += sign * n
	}
	return sum, nil
}
