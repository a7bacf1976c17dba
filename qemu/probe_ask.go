package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/qemulet/qemulet/qmp"
)

// askBinary starts a binary without a machine and asks what it can do.
func askBinary(ctx context.Context, path string) (Capabilities, error) {
	var caps Capabilities
	end, err := overQMP(ctx, path, func(monitor *qmp.Conn) (err error) {
		caps, err = interview(ctx, monitor, path)
		return err
	})
	if err != nil {
		return Capabilities{}, probeError(ctx, path, err, end)
	}
	return caps, nil
}

// overQMP starts a binary without a machine for as long as f talks to it.
func overQMP(ctx context.Context, path string, f func(*qmp.Conn) error) (runEnd, error) {
	conn, peer, err := socketPair()
	if err != nil {
		return runEnd{}, err
	}
	run := shortRun{Path: path, File: peer, Args: []string{
		"-M", "none", "-S", "-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", firstFD), "-mon", "chardev=qmp,mode=control",
	}}
	return run.during(func(int) error {
		monitor, err := qmp.New(ctx, conn)
		if err != nil {
			return err
		}
		defer monitor.Close()
		return f(monitor)
	})
}

// probeError turns what failed into words about the binary.
func probeError(ctx context.Context, path string, err error, end runEnd) error {
	if old := (*TooOldError)(nil); errors.As(err, &old) {
		return err
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it did not answer in time: %w", context.Cause(ctx))
	}
	last := ""
	if end.State != nil && end.State.Exited() {
		last = fmt.Sprintf("; it ended with %v", end.State)
	}
	if end.Said != "" {
		last += fmt.Sprintf("; it said: %q", end.Said)
	}
	return fmt.Errorf("qemu: %s: %w: it does not behave like QEMU: %w%s", path, ErrBinary, err, last)
}

// socketPair makes a connection, and the other end of it for a process to inherit.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("qemu: socketpair: %w", err)
	}
	ours, peer := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp peer")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		peer.Close()
		return nil, nil, fmt.Errorf("qemu: socketpair: %w", err)
	}
	return conn, peer, nil
}

// asker asks one QMP command.
type asker func(command string, args, out any) error

// interview asks everything.
func interview(ctx context.Context, monitor *qmp.Conn, path string) (Capabilities, error) {
	v := monitor.Version().QEMU
	version := Version{Major: v.Major, Minor: v.Minor, Micro: v.Micro}
	if version.Less(MinVersion) {
		return Capabilities{}, &TooOldError{Binary: path, Version: version}
	}
	return capabilities(path, version, func(command string, args, out any) error {
		return monitor.Do(ctx, command, args, out)
	})
}

// capabilities asks a binary one thing after the other.
func capabilities(path string, version Version, ask asker) (Capabilities, error) {
	c := Capabilities{Binary: path, Version: version}
	for _, question := range []func(asker, *Capabilities) error{
		askArch, askAccels, askMachines, askMachineOptions, askCPUModels, askCPUFeatures, askTCGFeatures, askDevices,
	} {
		if err := question(ask, &c); err != nil {
			return Capabilities{}, err
		}
	}
	return c, nil
}

// askArch refuses the binary of an architecture that no machine can be built for.
func askArch(ask asker, c *Capabilities) error {
	var target struct{ Arch Arch }
	if err := ask("query-target", nil, &target); err != nil {
		return err
	}
	if c.Arch = target.Arch; !c.Arch.supported() {
		return fmt.Errorf("it is a QEMU for %s, want one for %s", c.Arch, AMD64)
	}
	return nil
}

// named is the part that the answers of most questions have in common.
type named struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// names are the names in a list that keep wants, sorted.
func names(list []named, keep func(named) bool) []string {
	var kept []string
	for _, n := range list {
		if keep == nil || keep(n) {
			kept = append(kept, n.Name)
		}
	}
	slices.Sort(kept)
	return kept
}

// typesOf asks for the types that implement another.
func typesOf(ask asker, implements string) ([]named, error) {
	var types []named
	err := ask("qom-list-types", map[string]any{"implements": implements, "abstract": false}, &types)
	return types, err
}

func askAccels(ask asker, c *Capabilities) error {
	types, err := typesOf(ask, "accel")
	for _, name := range names(types, nil) {
		if a := Accel(strings.TrimSuffix(name, "-accel")); a == KVM || a == TCG {
			c.Accels = append(c.Accels, a)
		}
	}
	return err
}

// askMachines lists the versioned machine types. The one that goes by the name of
// the family comes first: which is the newest, only the distributor knows.
func askMachines(ask asker, c *Capabilities) error {
	var machines []struct {
		Name       string `json:"name"`
		Alias      string `json:"alias"`
		MaxCPUs    int    `json:"cpu-max"`
		RAMID      string `json:"default-ram-id"`
		Deprecated bool   `json:"deprecated"`
	}
	if err := ask("query-machines", nil, &machines); err != nil {
		return err
	}
	newest := ""
	for _, m := range machines {
		if !c.Arch.versioned(m.Name) {
			continue
		}
		if m.Alias == c.Arch.machineFamily() {
			newest = m.Name
		}
		c.Machines = append(c.Machines, MachineType{Name: m.Name, MaxCPUs: m.MaxCPUs, RAMID: cmp.Or(m.RAMID, "pc.ram"), Deprecated: m.Deprecated})
	}
	slices.SortFunc(c.Machines, func(a, b MachineType) int {
		if first := cmp.Compare(btoi(b.Name == newest), btoi(a.Name == newest)); first != 0 {
			return first
		}
		return newerFirst(a.Name, b.Name)
	})
	if len(c.Machines) == 0 {
		return fmt.Errorf("it has no versioned machine type of the family %s", c.Arch.machineFamily())
	}
	return nil
}

var number = regexp.MustCompile(`\d+`)

// newerFirst orders names by the numbers in them, the highest first.
func newerFirst(a, b string) int {
	numbers := func(name string) (found []int) {
		for _, digits := range number.FindAllString(name, -1) {
			n, _ := strconv.Atoi(digits)
			found = append(found, n)
		}
		return found
	}
	return cmp.Or(slices.Compare(numbers(b), numbers(a)), cmp.Compare(a, b))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func askMachineOptions(ask asker, c *Capabilities) error {
	var options []named
	err := ask("qom-list-properties", map[string]any{"typename": c.Machines[0].Name + "-machine"}, &options)
	c.MachineOptions = names(options, nil)
	return err
}

func askCPUModels(ask asker, c *Capabilities) error {
	var models []named
	err := ask("query-cpu-definitions", nil, &models)
	c.CPUModels = names(models, nil)
	return err
}

// askCPUFeatures takes the switches of the richest model, except those that
// change how QEMU treats a model instead of what the model has, and the caches.
func askCPUFeatures(ask asker, c *Capabilities) error {
	var properties []named
	err := ask("device-list-properties", map[string]any{"typename": c.Arch.maximalCPU() + c.Arch.cpuTypeSuffix()}, &properties)
	treatment := []string{"check", "enforce", "migratable", "start-powered-off", "host-cache-info", "l3-cache"}
	c.CPUFeatures = names(properties, func(p named) bool {
		return p.Type == "bool" && !slices.Contains(treatment, p.Name) && !strings.HasPrefix(p.Name, "x-")
	})
	return err
}

// askTCGFeatures asks what the richest model has when TCG emulates it. A binary
// that has begun with KVM would speak of the host.
func askTCGFeatures(ask asker, c *Capabilities) error {
	var kvm struct{ Enabled bool }
	if err := ask("query-kvm", nil, &kvm); err != nil {
		return err
	}
	if kvm.Enabled || !slices.Contains(c.Accels, TCG) {
		return nil
	}
	var full struct {
		Model struct{ Props map[string]any }
	}
	args := map[string]any{"type": "full", "model": map[string]any{"name": c.Arch.maximalCPU()}}
	if err := ask("query-cpu-model-expansion", args, &full); err != nil {
		return err
	}
	for _, name := range c.CPUFeatures {
		if full.Model.Props[name] == true {
			c.TCGFeatures = append(c.TCGFeatures, name)
		}
	}
	return nil
}

// hostVendor is what the host's processors say of their vendor.
func hostVendor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	return vendorIn(string(info))
}

// vendorIn finds the vendor in the text of /proc/cpuinfo.
func vendorIn(info string) string {
	for line := range strings.SplitSeq(info, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "vendor_id" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func askDevices(ask asker, c *Capabilities) error {
	types, err := typesOf(ask, "device")
	c.Devices = names(types, func(t named) bool { return !strings.HasSuffix(t.Name, c.Arch.cpuTypeSuffix()) })
	return err
}
