package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// trialGuest is a guest in 142 bytes: it switches the processor to 64-bit mode
// with paging on, adds 1 to a word of memory 2^24 times, and ends its machine
// through isa-debug-exit. KVM takes some 30 ms for that, TCG some 60; where each
// instruction is emulated it takes minutes. It starts at f000:f000.
var trialGuest = []byte{
	// 16-bit code
	0xfa,             // cli
	0x66, 0x31, 0xc0, // xor eax, eax
	0x8e, 0xd8, // mov ds, ax
	// page tables: the first 2 MiB are mapped to themselves
	0x66, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0x00, 0x00, // mov dword [0x1000], 0x2003
	0x66, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30, 0x00, 0x00, // mov dword [0x2000], 0x3003
	0x66, 0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0x00, 0x00, // mov dword [0x3000], 0x83
	0x66, 0xb8, 0x00, 0x10, 0x00, 0x00, // mov eax, 0x1000
	0x0f, 0x22, 0xd8, // mov cr3, eax
	// CR4.PAE, EFER.LME, CR0.PG and CR0.PE
	0x0f, 0x20, 0xe0, // mov eax, cr4
	0x0c, 0x20, // or al, 0x20
	0x0f, 0x22, 0xe0, // mov cr4, eax
	0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000080
	0x0f, 0x32, // rdmsr
	0x80, 0xcc, 0x01, // or ah, 1
	0x0f, 0x30, // wrmsr
	0x2e, 0x66, 0x0f, 0x01, 0x16, 0x88, 0xf0, // lgdt cs:[0xf088]
	0x0f, 0x20, 0xc0, // mov eax, cr0
	0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, // or eax, 0x80000001
	0x0f, 0x22, 0xc0, // mov cr0, eax
	0x66, 0xea, 0x5a, 0xf0, 0x0f, 0x00, 0x08, 0x00, // jmp 8:0xff05a
	// 0x5a: 64-bit code
	0xb9, 0x00, 0x00, 0x00, 0x01, // mov ecx, 1 << 24
	0xff, 0x04, 0x25, 0x00, 0x40, 0x00, 0x00, // 0x5f: inc dword [0x4000]
	0xff, 0xc9, // dec ecx
	0x75, 0xf5, // jnz 0x5f
	0xb0, 0x10, // mov al, 0x10
	0xe6, 0xf4, // out 0xf4, al
	0xf4,       // 0x6e: hlt
	0xeb, 0xfd, // jmp 0x6e
	0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00, // padding
	// 0x78: GDT, with one 64-bit code segment
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00,
	// 0x88: its limit and address
	0x0f, 0x00, 0x78, 0xf0, 0x0f, 0x00,
}

// trialExit is the exit status of QEMU when the guest has run to its end:
// isa-debug-exit makes 2n+1 of the number written to it.
const trialExit = 0x10<<1 | 1

// trialROM is a firmware that consists of the guest alone. A firmware's last
// 64 KiB are at f000:0000, and the processor starts 16 bytes before the end.
func trialROM() []byte {
	rom := make([]byte, 64<<10)
	copy(rom[0xf000:], trialGuest)
	copy(rom[0xfff0:], []byte{0xea, 0x00, 0xf0, 0x00, 0xf0}) // jmp f000:f000
	return rom
}

// trialResult is how a trial ended.
type trialResult struct {
	OK      bool          `json:"ok"`
	Outcome string        `json:"outcome"`
	Took    time.Duration `json:"took"` // ns
	// Inconclusive is a trial whose process got too little time on the host's
	// processors for its failure to mean anything; it is not kept.
	Inconclusive bool `json:"-"`
}

// trialKey is what a trial's result depends on.
type trialKey struct {
	BootID string       `json:"bootID"`
	Binary fileIdentity `json:"binary"`
	Device DeviceAccess `json:"device"`
	User   []uint32     `json:"user"`
}

// DeviceAccess is who may use a device; the zero value, that there is none.
type DeviceAccess struct {
	Mode     os.FileMode `json:"mode"`
	UID, GID uint32
}

// AccessOf looks at a device.
func AccessOf(device string) (DeviceAccess, error) {
	info, err := os.Stat(device)
	if err != nil {
		return DeviceAccess{}, err
	}
	a := DeviceAccess{Mode: info.Mode()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		a.UID, a.GID = st.Uid, st.Gid
	}
	return a, nil
}

// testGuest runs the trial guest, unless it has been run since the host booted.
func (o AccelOptions) testGuest(ctx context.Context) (string, error) {
	key, err := o.trialKey()
	if err != nil {
		return "", err
	}
	cache := cacheFile(o.CacheDir, "kvm-trial", o.Binary)
	result, found := readCache[trialResult](cache, key)
	if !found {
		if result, err = o.runTrial(ctx, "kvm", AMD64.passthroughCPU()+",migratable=on"); err != nil {
			return "", err
		}
		if !result.Inconclusive {
			// Without a cache the next start is slower, and that is all.
			_ = writeCache(cache, key, result)
		}
	}
	if !result.OK {
		return "", errors.New(result.Outcome)
	}
	return result.Outcome, nil
}

// trialKey gathers what the result of a trial depends on.
func (o AccelOptions) trialKey() (trialKey, error) {
	boot, err := os.ReadFile(o.BootID)
	if err != nil {
		return trialKey{}, err
	}
	key := trialKey{BootID: string(boot)}
	if key.Binary, err = identify(o.Binary); err != nil {
		return trialKey{}, err
	}
	if key.Device, err = AccessOf(o.Device); err != nil {
		return trialKey{}, err
	}
	if c := o.Credential; c != nil {
		key.User = append([]uint32{c.Uid, c.Gid}, slices.Sorted(slices.Values(c.Groups))...)
	}
	return key, nil
}

// runTrial runs the trial guest under an accelerator, for the limit at most. An
// error is one of the caller's context, or of ours; what became of the guest is in
// the result.
func (o AccelOptions) runTrial(ctx context.Context, accel, cpu string) (trialResult, error) {
	rom, err := memoryFile("qemu-trial", trialROM())
	if err != nil {
		return trialResult{}, err
	}
	run := shortRun{Path: o.Binary, File: rom, Credential: o.Credential, Args: []string{
		"-M", AMD64.machineFamily(), "-nodefaults", "-no-user-config", "-display", "none",
		"-accel", accel, "-cpu", cpu, "-m", "1M", "-bios", fmt.Sprintf("/dev/fd/%d", firstFD),
		"-device", "isa-debug-exit,iobase=0xf4,iosize=4",
	}}
	limited, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	begin := time.Now()
	end, err := run.untilExit(limited)
	if err != nil {
		return trialResult{}, err
	}
	if ctx.Err() != nil {
		return trialResult{}, context.Cause(ctx)
	}
	return o.judge(end, limited.Err() != nil, time.Since(begin)), nil
}

// judge tells what the end of a trial means.
func (o AccelOptions) judge(end runEnd, timedOut bool, took time.Duration) trialResult {
	switch {
	case end.State.ExitCode() == trialExit:
		return trialResult{OK: true, Took: took, Outcome: fmt.Sprintf("a trial guest ran to its end in %d ms", took.Milliseconds())}
	case timedOut:
		busy := end.State.UserTime() + end.State.SystemTime()
		return trialResult{Took: took, Inconclusive: busy < o.Limit/2, Outcome: fmt.Sprintf(
			"a trial guest of 50 million instructions has not ended in %v (QEMU was on a processor for %v of it)", o.Limit, busy.Round(time.Millisecond))}
	}
	return trialResult{Took: took, Outcome: fmt.Sprintf("QEMU ended with %v before the trial guest did, and said: %q", end.State, end.Said)}
}

// memoryFile is a file without a name, with that content.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("qemu: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("qemu: %s: %w", name, err)
	}
	return f, nil
}
