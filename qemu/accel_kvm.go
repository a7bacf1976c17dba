package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// From linux/kvm.h.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmAPIVersion    = 12 // for good
)

// testProcessor looks for hardware virtualisation among the processor's flags.
// A host can have KVM without it, by ways that do not carry ordinary guests.
func (o AccelOptions) testProcessor(context.Context) (string, error) {
	info, err := os.ReadFile(o.CPUInfo)
	if err != nil {
		return "", err
	}
	want := AMD64.kvmFlags()
	for line := range strings.Lines(string(info)) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, flag := range want {
			if strings.Contains(" "+strings.TrimSpace(flags)+" ", " "+flag+" ") {
				return "the processor has " + flag, nil
			}
		}
		break // all processors of a host have the same ones
	}
	return "", fmt.Errorf("the processor's flags in %s have none of %s", o.CPUInfo, strings.Join(want, ", "))
}

// testDevice opens the device, and makes a virtual machine with it that is gone
// at once.
func (o AccelOptions) testDevice(context.Context) (string, error) {
	f, err := os.OpenFile(o.Device, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: load the kernel module kvm_intel or kvm_amd, or switch virtualisation on in the firmware", err)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	version, err := ioctl(f, kvmGetAPIVersion)
	if err != nil {
		return "", fmt.Errorf("%s: KVM_GET_API_VERSION: %w", o.Device, err)
	}
	if version != kvmAPIVersion {
		return "", fmt.Errorf("%s: KVM_GET_API_VERSION says %d, want %d", o.Device, version, kvmAPIVersion)
	}
	vm, err := ioctl(f, kvmCreateVM)
	if err != nil {
		return "", fmt.Errorf("%s: KVM_CREATE_VM: %w", o.Device, err)
	}
	unix.Close(vm)
	return o.Device + " makes virtual machines", nil
}

// ioctl calls one that takes no argument and returns a number.
func ioctl(f *os.File, request uint) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlRetInt(int(fd), request) })
	if cerr != nil {
		return 0, cerr
	}
	return n, err
}
