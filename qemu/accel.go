package qemu

import (
	"cmp"
	"context"
	"fmt"
	"syscall"
	"time"
)

// AccelMode is what the operator asked for.
type AccelMode string

// The modes.
const (
	AccelAuto AccelMode = "auto" // KVM where it works, else TCG
	AccelKVM  AccelMode = "kvm"  // KVM or an error
	AccelTCG  AccelMode = "tcg"  // TCG, no question asked
)

// KVMDevice is the device of Linux's KVM.
const KVMDevice = "/dev/kvm"

// AccelOptions says where DecideAccel looks. The zero value of every field but
// Binary means the real place.
type AccelOptions struct {
	// Binary is the path of the QEMU program that runs the trial guest.
	Binary string
	// CacheDir keeps the trial's result until the next boot; empty means that
	// it is run every time.
	CacheDir string
	// Credential is the user QEMU runs as, who needs access to Device too;
	// nil is the caller's own.
	Credential *syscall.Credential

	Device  string        // default KVMDevice; the trial always uses that one
	CPUInfo string        // default /proc/cpuinfo
	BootID  string        // default /proc/sys/kernel/random/boot_id
	Limit   time.Duration // of the trial guest, default 2 s
}

// AccelDecision is the accelerator to use, and why.
type AccelDecision struct {
	Accel Accel `json:"accel"`
	// Reason is one line for people.
	Reason string `json:"reason"`
	// Fallback is set when TCG was taken though KVM was wanted: to be said
	// loudly.
	Fallback bool `json:"fallback,omitempty"`
}

// RungError says at which test KVM has turned out not to be usable.
type RungError struct {
	Rung string
	Err  error
}

// Error names the test and its outcome.
func (e *RungError) Error() string { return e.Rung + ": " + e.Err.Error() }

// Unwrap is the outcome.
func (e *RungError) Unwrap() error { return e.Err }

// DecideAccel decides which accelerator machines use on this host. That /dev/kvm
// is there, and even that it makes machines, does not mean that guests run under
// it: on a host that emulates instructions one by one they hang. So the processor,
// the device, its interface and at last a trial guest are asked, cheapest first;
// only the trial's result is kept, until the next boot.
//
// With AccelAuto the answer is TCG, with Fallback set, if one of them fails; with
// AccelKVM that is an error that wraps a *RungError.
func DecideAccel(ctx context.Context, mode AccelMode, o AccelOptions) (AccelDecision, error) {
	switch mode {
	case AccelTCG:
		return AccelDecision{Accel: TCG, Reason: "TCG was asked for"}, nil
	case AccelAuto, AccelKVM:
		return decide(ctx, mode, o.withDefaults().ladder())
	}
	return AccelDecision{}, fmt.Errorf("qemu: accelerator mode: got %q, want %s, %s or %s", mode, AccelAuto, AccelKVM, AccelTCG)
}

// rung is one test of the ladder. It tells what it has found, for people.
type rung struct {
	name string
	test func(context.Context) (string, error)
}

// decide climbs the ladder and decides by where it ends.
func decide(ctx context.Context, mode AccelMode, ladder []rung) (AccelDecision, error) {
	found, err := climb(ctx, ladder)
	switch {
	case err == nil:
		return AccelDecision{Accel: KVM, Reason: "KVM works: " + found}, nil
	case ctx.Err() != nil:
		return AccelDecision{}, fmt.Errorf("qemu: testing KVM: %w", context.Cause(ctx))
	case mode == AccelKVM:
		return AccelDecision{}, fmt.Errorf("qemu: KVM is required (accelerator mode %q) and not usable: %w", mode, err)
	}
	return AccelDecision{Accel: TCG, Fallback: true, Reason: fmt.Sprintf("KVM is not usable: %v; guests are emulated by TCG, which is tens of times slower and no security boundary", err)}, nil
}

// climb runs the tests up to the first that fails.
func climb(ctx context.Context, ladder []rung) (found string, err error) {
	for _, r := range ladder {
		if found, err = r.test(ctx); err != nil {
			return "", &RungError{Rung: r.name, Err: err}
		}
	}
	return found, nil
}

func (o AccelOptions) withDefaults() AccelOptions {
	o.Device = cmp.Or(o.Device, KVMDevice)
	o.CPUInfo = cmp.Or(o.CPUInfo, "/proc/cpuinfo")
	o.BootID = cmp.Or(o.BootID, "/proc/sys/kernel/random/boot_id")
	o.Limit = cmp.Or(o.Limit, 2*time.Second)
	return o
}

// ladder lists the tests, each of which makes sense only after those before.
func (o AccelOptions) ladder() []rung {
	return []rung{
		{"processor", o.testProcessor},
		{"device", o.testDevice},
		{"trial guest", o.testGuest},
	}
}
