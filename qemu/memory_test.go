package qemu

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// hugePages has the host reserve pages of 2 MiB, and gives them back.
func hugePages(t *testing.T, n int) {
	t.Helper()
	const file = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
	read := func() int {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Skip("no huge pages here:", err)
		}
		have, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
		return have
	}
	write := func(n int) error { return os.WriteFile(file, []byte(strconv.Itoa(n)), 0) }
	before := read()
	if err := write(before + n); err != nil {
		t.Skip("no huge pages can be had:", err)
	}
	t.Cleanup(func() {
		if err := write(before); err != nil {
			t.Error(err)
		}
	})
	if got := read(); got < before+n {
		t.Skipf("the kernel found %d of %d huge pages in its memory", got-before, n)
	}
}

func hugePageMachine(t *testing.T) (Config, Invocation) {
	t.Helper()
	config := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 64 << 20, HugePageBytes: 2 << 20}
	inv, err := Build(config, goldenCapabilities(t))
	if err != nil {
		t.Fatal(err)
	}
	inv.Binary = realQEMU(t)
	return config, inv
}

// A guest's RAM really lies in huge pages: all of them are set aside, and the
// firmware has written to some.
func TestHugePages(t *testing.T) {
	hugePages(t, 40)
	config, inv := hugePageMachine(t)
	m := startGolden(t, config, inv)
	if status := m.status(t); status != "prelaunch" {
		t.Fatalf("status %q: %s", status, m.log(t))
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", m.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, ram, found := strings.Cut(string(maps), "/memfd:memory-backend-memfd")
	ram, _, _ = strings.Cut(ram, "VmFlags:")
	if !found || !strings.Contains(ram, "Size:              65536 kB") || !strings.Contains(ram, "KernelPageSize:     2048 kB") {
		t.Errorf("the guest's RAM is mapped as %s", ram)
	}
}

// QEMU itself refuses when there are too few, before the guest runs.
func TestTooFewHugePages(t *testing.T) {
	hugePages(t, 0)
	config, inv := hugePageMachine(t)
	m := newGolden(t)
	m.start(t, config, inv)
	if err := m.cmd.Wait(); err == nil || !strings.Contains(m.log(t), "Cannot allocate memory") {
		t.Errorf("%v, QEMU says: %s", err, m.log(t))
	}
}
