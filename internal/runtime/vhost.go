package runtime

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/qemu"
)

// vhostDevice moves packets between taps and guests in the kernel.
const vhostDevice = "/dev/vhost-net"

// vhostNet tells whether NICs use vhost-net: where the node's settings allow
// it, the kernel has it, and guests run under KVM, without which it cannot be
// told of what they send.
func (r *Runtime) vhostNet(accel qemu.Accel) bool {
	return r.adjustable().VhostNet && accel == qemu.KVM && vhostUsable(vhostDevice)
}

// vhostGetFeatures is VHOST_GET_FEATURES (linux/vhost.h).
const vhostGetFeatures = 0x8008af00

// vhostUsable tells whether a device can be opened and is vhost's.
func vhostUsable(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var features uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), vhostGetFeatures, uintptr(unsafe.Pointer(&features)))
	return errno == 0
}
