package disks

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RootImage is the image that a persistent root disk is made from.
type RootImage struct {
	// Path of a qcow2 file that CheckBase has accepted.
	Path string
	// Digest is the SHA-256 of the file, by which a device knows its image.
	Digest [sha256.Size]byte
	// VirtualSize in bytes, of the image.
	VirtualSize int64
	// Fill, if set, writes to the guest's part of the disk when the image is
	// there, and makes that durable, before the header says that the disk is
	// complete: Inject, perhaps. The file stays PrepareRoot's.
	Fill func(ctx context.Context, disk RootDisk, f *os.File) error
}

// RootDisk is a persistent root disk that is ready to boot.
type RootDisk struct {
	Device
	// Found is what the device held before. Unless it was RootSame, the image
	// was written over it.
	Found RootState
	// Previous is the image that it held, if Found is RootOther: all that the
	// guest had written is gone.
	Previous [sha256.Size]byte
	// Offset and Length are the guest's part of the device, in bytes.
	Offset, Length int64
}

// TooSmallError says that an image does not fit on a device.
type TooSmallError struct {
	Path       string
	Size, Need int64 // bytes
}

// Error has both numbers.
func (e *TooSmallError) Error() string {
	return fmt.Sprintf("block device too small for the image: %s has %d bytes (%d sectors), at least %d bytes (%d sectors) are needed",
		e.Path, e.Size, e.Size/sector, e.Need, e.Need/sector)
}

// PrepareRoot makes a block device, or a plain file of fixed size in place of one,
// the root disk of a guest that survives its pod. If the device already holds the
// image it stays as it is, with all that the guest has written; if it holds
// anything else, that is lost.
//
// It can be interrupted anywhere, also by a power cut: the old header is
// invalidated before the first byte of the image is written, and the new one is
// written when all of the image is on the disk. What was interrupted is begun
// again.
//
// Errors: a *TooSmallError or a *RootVersionError (nothing was touched), ErrInUse
// when the device is mounted, mapped, being prepared, or another machine's disk;
// ErrNotDisk; or what the system or qemu-img say.
func PrepareRoot(ctx context.Context, path string, image RootImage) (RootDisk, error) {
	disk, err := prepareRoot(ctx, path, image)
	if err != nil {
		return RootDisk{}, fmt.Errorf("persistent root %s: %w", path, err)
	}
	return disk, nil
}

func prepareRoot(ctx context.Context, path string, image RootImage) (RootDisk, error) {
	f, err := openRoot(path)
	if err != nil {
		return RootDisk{}, err
	}
	defer f.Close()
	disk, err := examineRoot(f, image)
	if err != nil || disk.Found == RootSame {
		return disk, err
	}
	return disk, disk.fill(ctx, f, image)
}

// openRoot opens a device for nobody else: of a block device the kernel sees to
// that, against mounts and mappings, and the locks of image files are respected,
// against QEMU and others like us.
func openRoot(path string) (*os.File, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	if st, err := os.Stat(real); err == nil && !st.Mode().IsRegular() {
		flags |= unix.O_EXCL
	}
	f, err := openDevice(real, flags)
	if err != nil {
		return nil, err
	}
	if err := lockImage(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockImage locks the bytes by which QEMU says what it does with an image file
// (block/file-posix.c, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE): while they
// are ours, no machine opens the image. The lock belongs to the open file: a
// program that inherits it keeps it, if this process dies.
func lockImage(f *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 100, Len: 200}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: another machine has it, or it is being written", ErrInUse)
	}
	return err
}

// examineRoot decides, and touches nothing.
func examineRoot(f *os.File, image RootImage) (RootDisk, error) {
	d, err := measure(f)
	if err != nil {
		return RootDisk{}, err
	}
	if need := RootOffset + roundUp(image.VirtualSize, sector); d.Size < need {
		return RootDisk{}, &TooSmallError{Path: d.Path, Size: d.Size, Need: need}
	}
	head := make([]byte, rootHeaderLen)
	if _, err := f.ReadAt(head, 0); err != nil {
		return RootDisk{}, err
	}
	disk := RootDisk{Device: d, Offset: RootOffset, Length: d.Size/sector*sector - RootOffset}
	state, holds, err := ReadRootHeader(head, image.Digest)
	if disk.Found = state; state == RootOther {
		disk.Previous = holds
	}
	return disk, err
}

// fill writes the image. The order is what makes it safe: nothing of a step may
// reach the disk before all of the step before it.
func (d RootDisk) fill(ctx context.Context, f *os.File, image RootImage) error {
	for _, step := range []func() error{
		func() error { return writeSector(f, make([]byte, sector)) },
		f.Sync,
		func() error { return d.copyImage(ctx, f, image) },
		f.Sync,
		func() error { return image.fill(ctx, d, f) },
		func() error { return writeSector(f, RootHeader(image.Digest)) },
		f.Sync,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (i RootImage) fill(ctx context.Context, d RootDisk, f *os.File) error {
	if i.Fill == nil {
		return nil
	}
	return i.Fill(ctx, d, f)
}

func writeSector(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

// copyImage has qemu-img write the image behind the header, in any order and past
// the page cache where the device can: that is twice as fast as its defaults. What
// the image does not hold becomes zeros, by telling the device so if it
// understands.
func (d RootDisk) copyImage(ctx context.Context, f *os.File, image RootImage) error {
	// gofail: var rootDeviceCleared struct{}
	source, err := os.Open(image.Path)
	if err != nil {
		return err
	}
	defer source.Close()
	return tool{
		name: "qemu-img",
		args: []string{"convert", "-n", "-W", "-m", "16", "-t", d.cacheMode(), "--target-image-opts",
			sourceNode("/dev/fd/4"), d.targetOptions("/dev/fd/3")},
		files: []*os.File{f, source},
	}.run(ctx)
}

// cacheMode asks whether the device can be written past the page cache.
func (d RootDisk) cacheMode() string {
	f, err := os.OpenFile(d.Path, os.O_RDONLY|unix.O_DIRECT|unix.O_NONBLOCK, 0)
	if err != nil {
		return "writeback"
	}
	f.Close()
	return "none"
}

// sourceNode never lets an image name another file.
func sourceNode(path string) string {
	b, err := json.Marshal(map[string]any{
		"driver": QCow2, "read-only": true, "backing": nil,
		"file": map[string]any{"driver": "file", "filename": path},
	})
	if err != nil {
		panic(err) // strings, and nothing else
	}
	return "json:" + string(b)
}

// targetOptions turn QEMU's own locks off: ours are on.
func (d RootDisk) targetOptions(path string) string {
	driver := "file"
	if d.Block {
		driver = "host_device"
	}
	return fmt.Sprintf("driver=raw,offset=%d,size=%d,discard=unmap,file.driver=%s,file.filename=%s,file.locking=off,file.discard=unmap", d.Offset, d.Length, driver, path)
}
