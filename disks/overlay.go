package disks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Overlay is an empty disk on top of another file.
type Overlay struct {
	// Backing is the absolute path of the file below, up to 1023 bytes. It is
	// written into the header, and not looked at.
	Backing string
	// BackingFormat is its format, QCow2 or Raw. It is never guessed.
	BackingFormat Format
	// VirtualSize in bytes; it is rounded up to a multiple of 512, and is at
	// most MaxVirtualSize.
	VirtualSize int64
	// Fill, if set, writes to the overlay before it gets its name, and makes
	// that durable: Inject, perhaps. The file stays CreateOverlay's.
	Fill func(overlay *os.File) error
}

const (
	// overlayClusterBits are those of `qemu-img create`.
	overlayClusterBits = 16
	overlayCluster     = int64(1) << overlayClusterBits
	sector             = 512
	// bytesPerL1Entry is what one entry of the L1 table covers.
	bytesPerL1Entry = overlayCluster / 8 * overlayCluster

	// MaxVirtualSize is what an overlay's L1 table can address within the
	// 32 MiB that QEMU allows it: 2 PiB.
	MaxVirtualSize = maxL1Bytes / 8 * bytesPerL1Entry
)

// RootSize is the virtual size of a disk over an image of imageSize bytes for
// which requested bytes were asked: it never cuts the image off. It is a
// multiple of 512.
func RootSize(imageSize, requested int64) int64 {
	return roundUp(max(imageSize, requested), sector)
}

// CreateOverlay writes an empty overlay, a qcow2 file of version 3 as
// `qemu-img create -f qcow2 -b -F` makes it: sparse, four clusters of 64 KiB
// long, some more over 4 TiB. When it returns nil the file is durable; before
// that it is not there under its name. It never replaces a file: an existing
// one is an error that is fs.ErrExist.
func CreateOverlay(path string, o Overlay) error {
	if err := createOverlay(path, o); err != nil {
		return fmt.Errorf("create overlay %s: %w", path, err)
	}
	return nil
}

func createOverlay(path string, o Overlay) error {
	l, err := o.layout()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new")
	if err != nil {
		return err
	}
	err = l.write(f)
	if err == nil && o.Fill != nil {
		err = o.Fill(f)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = renameNew(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// layout is where things are in an overlay: the header in the first cluster,
// the refcount table and the one refcount block in the next two, then the L1
// table. A refcount block covers 32768 clusters, the L1 table has at most 512.
type layout struct {
	Overlay
	l1Entries, l1Clusters int64
}

func (o Overlay) layout() (layout, error) {
	switch {
	case !filepath.IsAbs(o.Backing) || len(o.Backing) > maxBackingName:
		return layout{}, fmt.Errorf("backing file %q: an absolute path of up to %d bytes is needed", o.Backing, maxBackingName)
	case o.BackingFormat != QCow2 && o.BackingFormat != Raw:
		return layout{}, fmt.Errorf("backing format %q: accepted are %q and %q", o.BackingFormat, QCow2, Raw)
	case o.VirtualSize <= 0 || o.VirtualSize > MaxVirtualSize:
		return layout{}, fmt.Errorf("virtual size of %d bytes: accepted are 1 to %d", o.VirtualSize, MaxVirtualSize)
	}
	o.VirtualSize = roundUp(o.VirtualSize, sector)
	l := layout{Overlay: o}
	l.l1Entries = roundUp(o.VirtualSize, bytesPerL1Entry) / bytesPerL1Entry
	l.l1Clusters = roundUp(l.l1Entries*8, overlayCluster) / overlayCluster
	return l, nil
}

const (
	refTableAt = 1 * overlayCluster
	refBlockAt = 2 * overlayCluster
	l1At       = 3 * overlayCluster
)

func (l layout) clusters() int64 { return 3 + l.l1Clusters }

// write fills an empty file and makes it durable. What is zero is left a hole.
func (l layout) write(f *os.File) error {
	if err := f.Truncate(l.clusters() * overlayCluster); err != nil {
		return err
	}
	for _, part := range []struct {
		b  []byte
		at int64
	}{
		{l.header(), 0},
		{binary.BigEndian.AppendUint64(nil, uint64(refBlockAt)), refTableAt},
		{l.refcounts(), refBlockAt},
	} {
		if _, err := f.WriteAt(part.b, part.at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// refcounts says that each cluster of the file is used once.
func (l layout) refcounts() []byte {
	var b []byte
	for range l.clusters() {
		b = binary.BigEndian.AppendUint16(b, 1)
	}
	return b
}

func (l layout) header() []byte {
	be := binary.BigEndian
	extension := l.formatExtension()
	b := make([]byte, headerLenOwn, headerLenOwn+len(extension)+len(l.Backing))
	copy(b, magic)
	be.PutUint32(b[4:], 3)
	be.PutUint64(b[8:], uint64(headerLenOwn+len(extension)))
	be.PutUint32(b[16:], uint32(len(l.Backing)))
	be.PutUint32(b[20:], overlayClusterBits)
	be.PutUint64(b[24:], uint64(l.VirtualSize))
	be.PutUint32(b[36:], uint32(l.l1Entries))
	be.PutUint64(b[40:], uint64(l1At))
	be.PutUint64(b[48:], uint64(refTableAt))
	be.PutUint32(b[56:], 1) // clusters of the refcount table
	be.PutUint32(b[96:], 4) // 16-bit refcounts
	be.PutUint32(b[100:], headerLenOwn)
	b = append(b, extension...)
	return append(b, l.Backing...)
}

// formatExtension names the backing format and ends the list of extensions.
func (l layout) formatExtension() []byte {
	b := binary.BigEndian.AppendUint32(nil, extBackingFormat)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.BackingFormat)))
	b = append(b, l.BackingFormat...)
	b = append(b, make([]byte, roundUp(int64(len(b)), 8)-int64(len(b)))...)
	return append(b, make([]byte, 8)...)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// renameNew renames without replacing. Where the file system cannot do that in
// one step (NFS), a hard link can.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	case err != nil:
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
