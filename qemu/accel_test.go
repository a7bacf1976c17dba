package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeFile makes a file with that content and returns its path.
func writeFile(t testing.TB, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func ladderOf(results ...error) []rung {
	var ladder []rung
	for i, err := range results {
		ladder = append(ladder, rung{string(rune('a' + i)), func(context.Context) (string, error) { return "found", err }})
	}
	return ladder
}

func TestDecide(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		mode     AccelMode
		ladder   []rung
		accel    Accel
		fallback bool
		says     string
	}{
		"auto works":   {AccelAuto, ladderOf(nil, nil), KVM, false, "KVM works: found"},
		"kvm works":    {AccelKVM, ladderOf(nil, nil), KVM, false, "KVM works: found"},
		"auto first":   {AccelAuto, ladderOf(broken, nil), TCG, true, "a: broken"},
		"auto last":    {AccelAuto, ladderOf(nil, broken), TCG, true, "b: broken"},
		"kvm required": {AccelKVM, ladderOf(nil, broken), "", false, "b: broken"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := decide(t.Context(), c.mode, c.ladder)
			if d.Accel != c.accel || d.Fallback != c.fallback {
				t.Errorf("%+v, %v", d, err)
			}
			if (err != nil) != (c.accel == "") {
				t.Errorf("error %v", err)
			}
			if err != nil {
				if rung := (*RungError)(nil); !errors.As(err, &rung) || !errors.Is(err, broken) {
					t.Errorf("%v is no RungError", err)
				}
				d.Reason = err.Error()
			}
			if !strings.Contains(d.Reason, c.says) {
				t.Errorf("it says %q", d.Reason)
			}
		})
	}
}

// A test that the caller has given up is no reason to emulate.
func TestDecideWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ladder := []rung{{"a", func(ctx context.Context) (string, error) {
		cancel()
		return "", ctx.Err()
	}}}
	if d, err := decide(ctx, AccelAuto, ladder); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestDecideAccelModes(t *testing.T) {
	d, err := DecideAccel(t.Context(), AccelTCG, AccelOptions{})
	if err != nil || d.Accel != TCG || d.Fallback {
		t.Errorf("tcg: %+v, %v", d, err)
	}
	for _, mode := range []AccelMode{"", "kvm:tcg", "KVM"} {
		if _, err := DecideAccel(t.Context(), mode, AccelOptions{}); err == nil || !strings.Contains(err.Error(), "auto, kvm or tcg") {
			t.Errorf("%q: %v", mode, err)
		}
	}
}

const cpuinfo = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme FLAG nx\nbugs\t\t: vmx\n"

func TestProcessor(t *testing.T) {
	for flag, usable := range map[string]bool{"vmx": true, "svm": true, "": false, "vmx_extra": false, "avx": false} {
		o := AccelOptions{CPUInfo: writeFile(t, "cpuinfo", strings.Replace(cpuinfo, "FLAG", flag, 1), 0o600)}
		found, err := o.testProcessor(t.Context())
		if (err == nil) != usable {
			t.Errorf("%q: %q, %v", flag, found, err)
		}
	}
	for name, content := range map[string]string{"the last flag": "flags: fpu svm\n", "no newline": "flags: svm"} {
		o := AccelOptions{CPUInfo: writeFile(t, "cpuinfo", content, 0o600)}
		if _, err := o.testProcessor(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (AccelOptions{CPUInfo: "/nonexistent"}).testProcessor(t.Context()); err == nil {
		t.Error("no cpuinfo, no error")
	}
}

func TestDevice(t *testing.T) {
	for name, path := range map[string]string{
		"load the kernel module": filepath.Join(t.TempDir(), "kvm"),
		"KVM_GET_API_VERSION":    writeFile(t, "kvm", "", 0o600),
		"is a directory":         t.TempDir(),
	} {
		_, err := (AccelOptions{Device: path}).testDevice(t.Context())
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Forced KVM on a host without it is an error that names the rung; auto says why
// it emulates.
func TestHostWithoutKVM(t *testing.T) {
	o := AccelOptions{
		Binary:  "/nonexistent/qemu",
		CPUInfo: writeFile(t, "cpuinfo", strings.Replace(cpuinfo, "FLAG", "vmx", 1), 0o600),
		Device:  "/nonexistent/kvm",
	}
	_, err := DecideAccel(t.Context(), AccelKVM, o)
	if rung := (*RungError)(nil); !errors.As(err, &rung) || rung.Rung != "device" || !strings.Contains(err.Error(), "/nonexistent/kvm") {
		t.Errorf("kvm: %v", err)
	}
	d, err := DecideAccel(t.Context(), AccelAuto, o)
	if err != nil || d.Accel != TCG || !d.Fallback || !strings.Contains(d.Reason, "/nonexistent/kvm") {
		t.Errorf("auto: %+v, %v", d, err)
	}
}

// The trial guest itself, under TCG: it is a program that ends.
func TestTrialGuestRuns(t *testing.T) {
	o := AccelOptions{Binary: realQEMU(t), Credential: nobody(t), Limit: 20 * time.Second}.withDefaults()
	result, err := o.runTrial(t.Context(), "tcg", "max")
	if err != nil || !result.OK || result.Took <= 0 {
		t.Errorf("%+v, %v", result, err)
	}
}

// A guest that is too slow is killed at the limit, and judged by the time that
// QEMU had on a processor.
func TestTrialGuestTooSlow(t *testing.T) {
	o := AccelOptions{Binary: writeFile(t, "qemu", "#!/bin/sh\nwhile :; do :; done\n", 0o755), Limit: 200 * time.Millisecond}
	result, err := o.runTrial(t.Context(), "kvm", "host")
	if err != nil || result.OK || !strings.Contains(result.Outcome, "200ms") {
		t.Errorf("busy: %+v, %v", result, err)
	}
	o.Binary = writeFile(t, "qemu", "#!/bin/sh\nsleep 1000\n", 0o755)
	result, err = o.runTrial(t.Context(), "kvm", "host")
	if err != nil || result.OK || !result.Inconclusive {
		t.Errorf("idle: %+v, %v", result, err)
	}
}

// What QEMU says before it fails is the reason.
func TestTrialGuestFails(t *testing.T) {
	o := AccelOptions{Binary: writeFile(t, "qemu", "#!/bin/sh\necho failed to set MSR >&2\nkill -ABRT $$\n", 0o755), Limit: 10 * time.Second}
	result, err := o.runTrial(t.Context(), "kvm", "host")
	if err != nil || result.OK || result.Inconclusive || !strings.Contains(result.Outcome, "failed to set MSR") || !strings.Contains(result.Outcome, "abort") {
		t.Errorf("%+v, %v", result, err)
	}
	o.Binary = "/nonexistent/qemu"
	if _, err := o.runTrial(t.Context(), "kvm", "host"); err == nil {
		t.Error("no binary, no error")
	}
}

func TestTrialGuestCancelled(t *testing.T) {
	o := AccelOptions{Binary: writeFile(t, "qemu", "#!/bin/sh\nsleep 1000\n", 0o755), Limit: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if result, err := o.runTrial(ctx, "kvm", "host"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", result, err)
	}
}

// One trial serves until the host boots again, or the binary, the device's
// permissions or the user change.
func TestTrialIsKept(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	script := "#!/bin/sh\necho x >> " + count + "\nexit 33\n"
	o := AccelOptions{
		Binary:   writeFile(t, "qemu", script, 0o755),
		CacheDir: filepath.Join(dir, "cache"),
		Device:   writeFile(t, "kvm", "", 0o600),
		BootID:   writeFile(t, "boot_id", "first\n", 0o600),
		Limit:    10 * time.Second,
	}
	runs := 0
	try := func(what string, again bool) {
		t.Helper()
		if again {
			runs++
		}
		if found, err := o.testGuest(t.Context()); err != nil || !strings.Contains(found, "ran to its end") {
			t.Fatalf("%s: %q, %v", what, found, err)
		}
		if data, _ := os.ReadFile(count); len(data) != 2*runs {
			t.Errorf("%s: %d trials, want %d", what, len(data)/2, runs)
		}
	}
	try("first", true)
	try("second", false)
	o.BootID = writeFile(t, "boot_id", "second\n", 0o600)
	try("after a boot", true)
	if err := os.Chmod(o.Device, 0o660); err != nil {
		t.Fatal(err)
	}
	try("after a chmod of the device", true)
	o.Credential = &syscall.Credential{Groups: []uint32{uint32(os.Getgid())}}
	try("as another user", true)
	try("as the same user", false)
	if err := os.WriteFile(o.Binary, []byte(script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	try("with another binary", true)
	o.CacheDir = ""
	try("without a cache", true)
	try("without a cache", true)
}

// A failure that means something is kept, one of a busy host is not.
func TestFailedTrialIsKept(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	o := AccelOptions{
		CacheDir: filepath.Join(dir, "cache"),
		Device:   writeFile(t, "kvm", "", 0o600),
		BootID:   writeFile(t, "boot_id", "first\n", 0o600),
		Limit:    300 * time.Millisecond,
	}
	for end, want := range map[string]string{"exit 1": "x\n", "sleep 1000": "x\nx\n"} {
		os.Remove(count)
		o.Binary = writeFile(t, "qemu", "#!/bin/sh\necho x >> "+count+"\n"+end+"\n", 0o755)
		for range 2 {
			if found, err := o.testGuest(t.Context()); err == nil {
				t.Errorf("%s: %q", end, found)
			}
		}
		if got, _ := os.ReadFile(count); string(got) != want {
			t.Errorf("%s: %q trials, want %q", end, got, want)
		}
	}
}

func TestTrialKeyNeedsItsSources(t *testing.T) {
	good := AccelOptions{
		Binary: writeFile(t, "qemu", "", 0o755),
		Device: writeFile(t, "kvm", "", 0o600),
		BootID: writeFile(t, "boot_id", "", 0o600),
	}
	if _, err := good.trialKey(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*AccelOptions){
		"binary": func(o *AccelOptions) { o.Binary = "/nonexistent" },
		"device": func(o *AccelOptions) { o.Device = "/nonexistent" },
		"boot":   func(o *AccelOptions) { o.BootID = "/nonexistent" },
	} {
		o := good
		change(&o)
		if _, err := o.testGuest(t.Context()); err == nil {
			t.Errorf("no %s, no error", name)
		}
	}
}
