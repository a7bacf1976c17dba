package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// Capabilities is what a QEMU binary can do, as it says itself over QMP. It is
// pure data and can be recorded as JSON.
type Capabilities struct {
	// Binary is the absolute path that was probed.
	Binary string `json:"binary"`
	// Arch is the guest architecture.
	Arch Arch `json:"arch"`
	// Version of the binary.
	Version Version `json:"version"`
	// Accels are the accelerators compiled in, which says nothing of whether
	// the host has them.
	Accels []Accel `json:"accels"`
	// Machines are the versioned machine types of the family that is used,
	// newest first.
	Machines []MachineType `json:"machines"`
	// MachineOptions are the option names that the newest of them has.
	MachineOptions []string `json:"machineOptions"`
	// CPUModels are the names of the processor models, sorted.
	CPUModels []string `json:"cpuModels"`
	// CPUFeatures are the names of the features that can be switched, sorted.
	CPUFeatures []string `json:"cpuFeatures"`
	// TCGFeatures are those of them that TCG emulates; empty when the binary
	// did not say.
	TCGFeatures []string `json:"tcgFeatures,omitempty"`
	// HostVendor is the vendor of this host's processors by CPUID, which is
	// the host's and not the binary's; empty when unknown.
	HostVendor string `json:"hostVendor,omitempty"`
	// Devices are the names of the device types, sorted.
	Devices []string `json:"devices"`
}

// MachineType is a versioned machine type.
type MachineType struct {
	Name       string `json:"name"`
	MaxCPUs    int    `json:"maxCPUs"`
	RAMID      string `json:"ramID"` // id of its main memory block
	Deprecated bool   `json:"deprecated,omitempty"`
}

// ErrUnsupported is wrapped by errors that name what a QEMU binary lacks.
var ErrUnsupported = errors.New("not supported by this QEMU")

// ErrBinary is wrapped by the errors of Probe about a program that is missing,
// cannot be run, or is not QEMU.
var ErrBinary = errors.New("no usable QEMU binary")

// TooOldError is the error about a QEMU older than MinVersion.
type TooOldError struct {
	Binary  string
	Version Version
}

// Error names both versions.
func (e *TooOldError) Error() string {
	return fmt.Sprintf("qemu: %s is QEMU %s, which is too old: %s or newer is needed", e.Binary, e.Version, MinVersion)
}

// HasDevice tells whether the binary has a device type.
func (c Capabilities) HasDevice(driver string) bool {
	_, found := slices.BinarySearch(c.Devices, driver)
	return found
}

// lacks is the error about something that the binary does not have.
func (c Capabilities) lacks(what string, args ...any) error {
	return fmt.Errorf("qemu: %s of version %s lacks %s: %w", c.Binary, c.Version, fmt.Sprintf(what, args...), ErrUnsupported)
}

// probeLimit is the longest that a binary may take to say what it can do; it
// takes less than 100 ms.
const probeLimit = 10 * time.Second

// Probe tells what a QEMU binary can do: the path of one, or a name to be found
// in $PATH. It starts the binary once, without a machine, in a process that dies
// with the calling one, and asks it over QMP. The answer is kept in cacheDir for
// as long as the file stays the same; an empty cacheDir keeps nothing, and one
// that cannot be written to is no error.
//
// Errors wrap ErrBinary and name what is wrong with the program, or are a
// *TooOldError. No call takes longer than 10 s.
func Probe(ctx context.Context, binary, cacheDir string) (Capabilities, error) {
	path, err := findBinary(binary)
	if err != nil {
		return Capabilities{}, err
	}
	key, err := identify(path)
	if err != nil {
		return Capabilities{}, err
	}
	cache := cacheFile(cacheDir, "capabilities", path)
	if caps, ok := readCache[Capabilities](cache, key); ok {
		caps.HostVendor = hostVendor()
		return caps, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	caps, err := askBinary(ctx, path)
	if err != nil {
		return Capabilities{}, err
	}
	// Without a cache the next call is slower, and that is all.
	_ = writeCache(cache, key, caps)
	caps.HostVendor = hostVendor()
	return caps, nil
}

// findBinary is the absolute path of a program that may be executed.
func findBinary(binary string) (string, error) {
	path, err := exec.LookPath(binary)
	if errors.Is(err, exec.ErrDot) {
		err = nil // asked for by a relative path: it is made absolute
	}
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		// os/exec wraps what the caller may want to know: it does not exist,
		// or may not be executed.
		return "", fmt.Errorf("qemu: %w: %w: install QEMU (on Debian the package qemu-system-x86), or name another binary", ErrBinary, err)
	}
	return path, nil
}
