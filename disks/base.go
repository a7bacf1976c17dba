package disks

import (
	"encoding/binary"
	"io"
)

// Limits bound what CheckBase accepts. The zero value is the default.
type Limits struct {
	// VirtualSize is the largest, in bytes; 0 means DefaultVirtualSize.
	VirtualSize int64
	// ScanBytes bounds how much of the L2 tables is read to see whether the
	// data they point to are there; 0 means 64 MiB, enough for 512 GiB of data
	// in clusters of 64 KiB. The tables' own presence is always checked.
	ScanBytes int64
}

// DefaultVirtualSize is the largest disk that CheckBase accepts unless told
// otherwise, in bytes.
const DefaultVirtualSize = int64(16) << 40

const (
	defaultScanBytes = int64(64) << 20

	// The offset in an L1, L2 or refcount table entry.
	entryOffset   = uint64(0x00fffffffffffe00)
	l2Compressed  = uint64(1) << 62
	l2ZeroCluster = uint64(1)
)

// CheckBase tells whether the size bytes in r are an image that a guest's disk
// may stand on: a raw disk with a partition table or a file system, or a qcow2
// image that is intact, self-contained, and has nothing in it that would make
// QEMU read another file of the host. Internal snapshots are allowed; they are
// not looked at.
//
// An error is a *FormatError for what is neither, ErrRefused for what is an
// image and is not accepted, or one of r's own.
func CheckBase(r io.ReaderAt, size int64, o Limits) (Image, error) {
	raw, err := rawImage(r, size)
	if err != nil {
		return Image{}, err
	}
	if raw != nil {
		return *raw, raw.refuse(o)
	}
	h, err := open(r, size)
	if err != nil {
		return Image{}, err
	}
	img := h.image()
	if err := img.refuse(o); err != nil {
		return Image{}, err
	}
	c := extent{h: h, r: r, size: size, budget: o.ScanBytes}
	if c.budget == 0 {
		c.budget = defaultScanBytes
	}
	if err := c.check(); err != nil {
		return Image{}, err
	}
	return img, nil
}

func (img Image) refuse(o Limits) error {
	limit := o.VirtualSize
	if limit == 0 {
		limit = DefaultVirtualSize
	}
	switch {
	case img.BackingFile != "":
		return refused("it has a backing file, %q, and would show the guest that file; flatten it with `qemu-img convert -O qcow2`", img.BackingFile)
	case img.DataFile || img.DataFileName != "":
		return refused("its data are in another file, %q; pack it with `qemu-img convert -O qcow2`", img.DataFileName)
	case img.Encryption != "":
		return refused("it is encrypted (%s)", img.Encryption)
	case img.UnknownFeatures != 0:
		return refused("it needs features that are not known here (incompatible bits 0x%x)", img.UnknownFeatures)
	case img.Compression == "unknown":
		return refused("its clusters are compressed in a way that is not known here; known are zlib and zstd")
	case img.Corrupt:
		return refused("it is marked as corrupt; repair it with `qemu-img check -r all`")
	case img.VirtualSize > limit:
		return refused("its virtual size is %d bytes, the limit %d", img.VirtualSize, limit)
	case img.VirtualSize == 0:
		return refused("its virtual size is 0")
	}
	return nil
}

// extent checks that what an image's tables point to lies within the file. It
// finds downloads that were cut off: QEMU would read zeros there.
type extent struct {
	h      *header
	r      io.ReaderAt
	size   int64
	budget int64
}

func (c *extent) check() error {
	refTable, err := c.table(c.h.refTableOffset, int64(c.h.refTableClusters)<<c.h.clusterBits)
	if err != nil {
		return err
	}
	for i := range len(refTable) / 8 {
		if _, err := c.cluster("a refcount block", entry(refTable, i)&entryOffset); err != nil {
			return err
		}
	}
	l1, err := c.table(c.h.l1Offset, int64(c.h.l1Needed())*8)
	if err != nil {
		return err
	}
	l2 := make([]byte, c.h.clusterSize())
	for i := range len(l1) / 8 {
		if err := c.checkL2(entry(l1, i)&entryOffset, l2); err != nil {
			return err
		}
	}
	return nil
}

// checkL2 checks that an L2 table is there and, while the budget lasts, what
// it points to. It uses buf, of one cluster.
func (c *extent) checkL2(offset uint64, buf []byte) error {
	there, err := c.cluster("an L2 table", offset)
	if err != nil || !there || c.budget <= 0 {
		return err
	}
	c.budget -= int64(len(buf))
	if err := readFull(c.r, buf, int64(offset)); err != nil {
		return err
	}
	for i := 0; i < len(buf)/8; i += int(c.h.l2EntrySize() / 8) {
		if err := c.checkData(entry(buf, i)); err != nil {
			return err
		}
	}
	return nil
}

// checkData checks an L2 entry. The last cluster of a file need not be whole.
func (c *extent) checkData(e uint64) error {
	offset := e & entryOffset
	switch {
	case e&l2Compressed != 0:
		offset = e & (1<<(62-(c.h.clusterBits-8)) - 1)
	case c.h.incompatible&incompatExtendedL2 == 0 && e&l2ZeroCluster != 0:
		return nil // its data are not read
	}
	if offset != 0 && offset >= uint64(c.size) {
		return truncated("data of the guest lie at %d, the file ends at %d", offset, c.size)
	}
	return nil
}

// cluster checks that a whole cluster lies within the file; false means that
// there is none (offset 0).
func (c *extent) cluster(what string, offset uint64) (bool, error) {
	switch {
	case offset == 0:
		return false, nil
	case offset%uint64(c.h.clusterSize()) != 0:
		return false, damaged(what, "at %d does not begin at a multiple of the cluster size of %d", offset, c.h.clusterSize())
	case offset > uint64(c.size) || int64(offset)+c.h.clusterSize() > c.size:
		return false, truncated("%s lies at %d, the file ends at %d", what, offset, c.size)
	}
	return true, nil
}

func (c *extent) table(offset uint64, length int64) ([]byte, error) {
	if length == 0 {
		return nil, nil
	}
	b := make([]byte, length)
	return b, readFull(c.r, b, int64(offset))
}

func entry(table []byte, i int) uint64 { return binary.BigEndian.Uint64(table[i*8:]) }
