package qemu

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Guests of 512 bytes, in 16-bit code, for tests of how machines end. The firmware
// starts them from a disk within a tenth of a second. 0x600 is the base of ICH9's
// power management registers: PM1_STS at +0, PM1_CNT at +4; 0x505 is pvpanic's port.
const (
	// cli; hlt; jmp: neither wakes nor ends.
	guestIgnores = "fa f4 ebfd"
	// out 0x604, SLP_EN: powers off at once.
	guestPowersOff = "ba0406 b80020 ef f4 ebfd"
	// PM1_EN, at +2: wants the power button's bit; loop until it is set in
	// PM1_STS; then as above.
	guestObeys = "fa ba0206 b80001 ef ba0006 ed f6c401 74fa ba0406 b80020 ef f4 ebfd"
	// out 0x505, 1
	guestPanics = "ba0505 b001 ee f4 ebfd"
	// enters unreal mode and writes to each page from 1 MiB to 512 MiB.
	guestEatsMemory = "fa31c08ed8660f0116507c0f20c00c010f22c0bb08008edb24fe0f22c066" +
		"bb000010006766891b6681c3001000006681fb0000002072ecf4ebfd8db4" +
		"000066900000000000000000ffff00000092cf000f00407c0000"
)

// testUUID of the machines that tests start one at a time.
const testUUID = "0a1b2c3d-0000-4000-8000-0123456789ab"

// vm is what it takes to start a small machine.
type vm struct {
	inv Invocation
	o   StartOptions
	run string // its directory
}

// newVM makes the invocation of a machine that boots guest, by hand: these tests
// are about processes, not about what Build makes. It runs as nobody, sandboxed.
func newVM(t testing.TB, guest string) *vm {
	t.Helper()
	dir := shortDir(t)
	disk := openGuest(t, dir, guest)
	args := strings.Fields("-S -machine q35,usb=off,graphics=off -accel tcg,tb-size=64 -m 64 -nodefaults -no-user-config -display none" +
		" -name guest=test,debug-threads=on -uuid " + testUUID + " -action shutdown=pause,reboot=reset,panic=pause" +
		" -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -msg timestamp=on,guest-name=on" +
		" -trace enable=runstate_set -trace enable=qemu_system_shutdown_request -trace enable=qemu_system_powerdown_request" +
		" -chardev socket,id=qmp,fd=3,server=on,wait=off -mon chardev=qmp,mode=control" +
		" -add-fd fd=4,set=4 -add-fd fd=5,set=4 -add-fd fd=6,set=6 -chardev null,id=console -serial chardev:console -device pvpanic" +
		" -add-fd fd=7,set=7 -blockdev driver=file,node-name=disk,filename=/dev/fdset/7,read-only=on -device virtio-blk-pci,drive=disk")
	log, err := os.OpenFile(filepath.Join(dir, FileConsoleLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	console := chardevChange{ID: serialChardev, Backend: chardevBackend{Type: "file", Data: chardevFile{In: "/dev/fdset/4", Out: "/dev/fdset/6", Append: true}}}
	return &vm{
		run: dir,
		inv: Invocation{Binary: realQEMU(t), Machine: "q35", UUID: testUUID, Args: args,
			Sockets: []SocketNeed{{SocketQMP, 3}}, Pipes: []PipeNeed{{PipeConsole, 4, 5}},
			Files:    []FileNeed{{Name: FileConsoleLog, FD: 6, Writable: true, Append: true}, {Name: "disk", FD: 7}},
			Commands: []Command{{"chardev-change", json.RawMessage(renderJSON(console))}}},
		o: StartOptions{RunDir: dir, Log: filepath.Join(dir, "qemu.log"), Credential: nobody(t),
			Files: map[string]*os.File{"disk": disk, FileConsoleLog: log}},
	}
}

// shortDir is a directory for sockets: t.TempDir's names are too long.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// openGuest makes a disk with a boot sector.
func openGuest(t testing.TB, dir, guest string) *os.File {
	t.Helper()
	code, err := hex.DecodeString(strings.ReplaceAll(guest, " ", ""))
	if err != nil || len(code) > 510 {
		t.Fatalf("guest of %d bytes: %v", len(code), err)
	}
	image := make([]byte, 1<<20)
	copy(image, code)
	copy(image[510:], "\x55\xaa")
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// start starts the machine and has it killed when the test is over.
func (v *vm) start(t testing.TB) *Machine {
	t.Helper()
	m, err := Start(t.Context(), v.inv, v.o)
	if err != nil {
		t.Fatalf("%v\n%s", err, v.log(t))
	}
	t.Cleanup(func() { destroy(m) })
	return m
}

// cont starts the machine and lets the guest run.
func (v *vm) cont(t testing.TB) *Machine {
	t.Helper()
	m := v.start(t)
	if err := m.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

func (v *vm) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(v.o.Log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(text)
}

func (v *vm) adopt(ctx context.Context, id Identity) (*Machine, error) {
	return Adopt(ctx, id, AdoptOptions{RunDir: v.run, Log: v.o.Log, Cgroup: v.o.Cgroup})
}

// destroy ends and reaps the machine whatever state it is in, even let go of.
func destroy(m *Machine) {
	if m.over() {
		if p, err := hostProc.find(m.id); err == nil {
			p.kill()
			p.wait()
			p.reap()
			p.close()
		}
	}
	m.Kill()
	m.endsWithin(10 * time.Second)
	m.Close()
}

// ended waits for the machine's end.
func ended(t testing.TB, m *Machine) Ending {
	t.Helper()
	if !m.endsWithin(20 * time.Second) {
		t.Fatal("the machine goes on")
	}
	return m.Ending()
}

// wantEnding compares, with the time within the last moments.
func wantEnding(t testing.TB, got Ending, reason Reason, code int, detail string) {
	t.Helper()
	if got.Reason != reason || got.ExitCode != code || !strings.Contains(got.Detail, detail) {
		t.Errorf("ending %+v, want reason %s, code %d and %q in the detail", got, reason, code, detail)
	}
	if ago := time.Since(got.Time); ago < -time.Second || ago > time.Minute {
		t.Errorf("ended at %v, %v ago", got.Time, ago)
	}
}

// wantGone fails the test if a process lives. It may wait for init to reap it.
func wantGone(t testing.TB, pid int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("process %d lives: %s", pid, stat)
	}
}

// noLeaks fails the test if at its end there are goroutines, descriptors or
// sockets that were not there now. It is for tests that are not parallel.
func noLeaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	before := openFiles(t)
	t.Cleanup(func() {
		goleak.VerifyNone(t, ignore)
		if after := openFiles(t); !t.Failed() && len(after) > len(before) {
			t.Errorf("descriptors before: %v\nand after: %v", before, after)
		}
	})
}

func openFiles(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			files = append(files, e.Name()+" "+link)
		}
	}
	return files
}

// script makes a program that Start takes for QEMU.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu-fake")
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\n%s\n", text), 0o755); err != nil {
		t.Fatal(err)
	}
	// An unprivileged user has to get there.
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	return path
}
