package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/e2e/node"
)

// Between these lines docs/performance.md has what was measured last.
const (
	pageBegin = "<!-- begin: make bench ARGS=-update -->"
	pageEnd   = "<!-- end -->"
)

func updatePage(text string) error {
	path := filepath.Join(node.Top(), "docs", "performance.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := replaceBetween(string(page), text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}

func replaceBetween(page, text string) (string, error) {
	before, rest, begun := strings.Cut(page, pageBegin)
	_, after, ended := strings.Cut(rest, pageEnd)
	if !begun || !ended {
		return "", fmt.Errorf("no place for results: the lines %q and %q are needed", pageBegin, pageEnd)
	}
	return before + pageBegin + "\n" + text + "\n" + pageEnd + after, nil
}

// machine describes where the results are from.
func machine() string {
	version, _ := exec.Command("qemu-system-x86_64", "--version").Output()
	qemu, _, _ := strings.Cut(string(version), "\n")
	qemu = strings.TrimPrefix(qemu, "QEMU emulator version ")
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	return fmt.Sprintf("%s: %s, %d cores; Linux %s; QEMU %s, TCG; %s.", time.Now().Format(time.DateOnly), cpuModel(),
		runtime.NumCPU(), unix.ByteSliceToString(uts.Release[:]), qemu, runtime.Version())
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(data), "\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

func TestPageHasAPlaceForResults(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(node.Top(), "docs", "performance.md"))
	must(t, err)
	changed, err := replaceBetween(string(page), "| new |")
	must(t, err)
	if !strings.Contains(changed, pageBegin+"\n| new |\n"+pageEnd) {
		t.Errorf("the results are not there:\n%s", changed)
	}
	if _, err := replaceBetween("nothing", "| new |"); err == nil {
		t.Error("a page without a place was accepted")
	}
}
