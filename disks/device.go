package disks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Device is a block device, or a plain file in place of one, that a guest gets
// as a raw disk.
type Device struct {
	// Path without symbolic links: what a link leads to tomorrow is not what
	// was looked at.
	Path string
	// Block tells a block device from a regular file.
	Block bool
	// Size in bytes.
	Size int64
	// SectorSize is the logical sector of a block device in bytes, 0 of a file.
	SectorSize int
	// ReadOnly tells that the device, or the file system a file is on, takes
	// no writes.
	ReadOnly bool
}

var (
	// ErrNotDisk is what all errors are about things that are neither a block
	// device nor a regular file.
	ErrNotDisk = errors.New("neither a block device nor a regular file")
	// ErrInUse is what all errors are about devices that something else has
	// mounted, mapped or started a machine on.
	ErrInUse = errors.New("in use")
)

// InspectDevice follows the symbolic links of a path and tells what is at their
// end. Nothing is opened but block devices and regular files.
func InspectDevice(path string) (Device, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Device{}, fmt.Errorf("disk %s: %w", path, err)
	}
	f, err := openDevice(real, os.O_RDONLY)
	if err != nil {
		return Device{}, err
	}
	defer f.Close()
	return describe(f)
}

// openDevice opens a block device or regular file, and nothing else: to open a
// FIFO would wait, and to open a tape would rewind it.
func openDevice(path string, flags int) (*os.File, error) {
	st, err := os.Stat(path)
	if err == nil {
		err = checkDisk(st)
	}
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", path, err)
	}
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("disk %s: %w: it is mounted or mapped, or a program has it for itself", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("disk %s: %w", path, err)
	}
	return f, nil
}

func checkDisk(st os.FileInfo) error {
	const device = os.ModeDevice | os.ModeCharDevice
	if st.Mode().IsRegular() || st.Mode()&device == os.ModeDevice {
		return nil
	}
	return fmt.Errorf("%w: it is %s", ErrNotDisk, kindOf(st.Mode()))
}

func kindOf(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeNamedPipe != 0:
		return "a FIFO"
	case m&os.ModeSocket != 0:
		return "a socket"
	}
	return "a character device"
}

// describe looks at an open device.
func describe(f *os.File) (Device, error) {
	d, err := measure(f)
	if err != nil {
		return Device{}, fmt.Errorf("disk %s: %w", f.Name(), err)
	}
	return d, nil
}

func measure(f *os.File) (Device, error) {
	st, err := f.Stat()
	if err == nil {
		err = checkDisk(st) // it may be another one than before
	}
	if err != nil {
		return Device{}, err
	}
	d := Device{Path: f.Name(), Block: !st.Mode().IsRegular(), Size: st.Size()}
	if d.Block {
		return d, d.measureBlock(f)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return Device{}, err
	}
	d.ReadOnly = fs.Flags&unix.ST_RDONLY != 0
	return d, nil
}

func (d *Device) measureBlock(f *os.File) (err error) {
	if d.Size, err = f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if d.SectorSize, err = unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil {
		return err
	}
	// The kernel writes an int there; IoctlGetInt has room for more.
	readOnly, err := unix.IoctlGetUint32(int(f.Fd()), unix.BLKROGET)
	d.ReadOnly = readOnly != 0
	return err
}
