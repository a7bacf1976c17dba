package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const tunDevice = "/dev/net/tun"

// tapFlags must be the same whenever a tap is opened: the kernel refuses others than it was made with.
func tapFlags(queues int) uint16 {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	return flags
}

// createTap makes a persistent tap in the calling thread's namespace.
func createTap(name string, queues int) error {
	file, err := attachTap(name, tapFlags(queues)|unix.IFF_TUN_EXCL)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unix.IoctlSetInt(int(file.Fd()), unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("netns: make tap %s persistent: %w", name, err)
	}
	return nil
}

// openQueues opens queue pairs of an existing tap in the calling thread's namespace.
func openQueues(nic Interface, queues int) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	if !linkExists(nic.Tap) { // attaching would make a new one
		return nil, fmt.Errorf("netns: tap %s: %w", nic.Tap, ErrGone)
	}
	for range queues {
		file, err := attachTap(nic.Tap, tapFlags(nic.Queues))
		if errors.Is(err, unix.EBUSY) {
			return files, fmt.Errorf("%w (another process holds it open)", err)
		}
		if err != nil {
			return files, err
		}
		files = append(files, file)
	}
	return files, nil
}

func attachTap(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, tunError(err)
	}
	file := os.NewFile(uintptr(fd), tunDevice)
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("netns: attach to tap %s: %w", name, err)
	}
	return file, nil
}

func tunError(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("netns: open %s: %w: the kernel's module tun is needed (modprobe tun)", tunDevice, err)
	}
	return fmt.Errorf("netns: open %s: %w", tunDevice, err)
}

// linkExists reports whether the calling thread's namespace has a link of that name.
func linkExists(name string) bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(name)
	return err == nil && unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request) == nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
