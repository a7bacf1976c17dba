package disks

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Values of the qcow2 header (docs/interop/qcow2.txt, "Header").
const (
	magic = "QFI\xfb"

	headerLenV2  = 72
	headerLenV3  = 104
	headerLenOwn = 112 // with the compression type, as QEMU writes it since 5.1

	minClusterBits  = 9
	maxClusterBits  = 21
	maxRefcountBits = 6 // as a power of two

	incompatDirty       = 1 << 0
	incompatCorrupt     = 1 << 1
	incompatDataFile    = 1 << 2
	incompatCompression = 1 << 3
	incompatExtendedL2  = 1 << 4
	incompatKnown       = incompatDirty | incompatCorrupt | incompatDataFile | incompatCompression | incompatExtendedL2

	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extDataFile      = 0x44415441
)

// Limits that QEMU itself enforces when it opens an image.
const (
	maxL1Bytes       = 32 << 20
	maxRefTableBytes = 8 << 20
	maxSnapshots     = 65536
	maxBackingName   = 1023
)

// header is the fixed part of a qcow2 file, as it stands there.
type header struct {
	version           uint32
	backingOffset     uint64
	backingSize       uint32
	clusterBits       uint32
	size              uint64
	crypt             uint32
	l1Size            uint32
	l1Offset          uint64
	refTableOffset    uint64
	refTableClusters  uint32
	snapshots         uint32
	snapshotsOffset   uint64
	incompatible      uint64
	compatible        uint64
	autoclear         uint64
	refcountOrder     uint32
	length            uint32
	compression       uint8
	backingName       string
	backingFormatName string
	dataFile          string
}

// readHeader reads the header and its extensions, with every length and
// offset checked against the file before it is used.
func readHeader(r io.ReaderAt, size int64) (*header, error) {
	raw := make([]byte, min(size, headerLenOwn))
	if err := readFull(r, raw, 0); err != nil {
		return nil, err
	}
	h, err := decodeHeader(raw)
	if err != nil {
		return nil, err
	}
	if err := h.check(size); err != nil {
		return nil, err
	}
	if err := h.readExtensions(r, size); err != nil {
		return nil, err
	}
	return h, h.readBackingName(r, size)
}

func decodeHeader(b []byte) (*header, error) {
	be := binary.BigEndian
	if len(b) < headerLenV2 {
		return nil, truncated("the header has 72 bytes, the file %d", len(b))
	}
	h := &header{
		version:          be.Uint32(b[4:]),
		backingOffset:    be.Uint64(b[8:]),
		backingSize:      be.Uint32(b[16:]),
		clusterBits:      be.Uint32(b[20:]),
		size:             be.Uint64(b[24:]),
		crypt:            be.Uint32(b[32:]),
		l1Size:           be.Uint32(b[36:]),
		l1Offset:         be.Uint64(b[40:]),
		refTableOffset:   be.Uint64(b[48:]),
		refTableClusters: be.Uint32(b[56:]),
		snapshots:        be.Uint32(b[60:]),
		snapshotsOffset:  be.Uint64(b[64:]),
		refcountOrder:    4,
		length:           headerLenV2,
	}
	switch {
	case h.version == 2:
		return h, nil
	case h.version != 3:
		return nil, damaged("header.version", "is %d; known are 2 and 3", h.version)
	case len(b) < headerLenV3:
		return nil, truncated("the header has 104 bytes, the file %d", len(b))
	}
	h.incompatible = be.Uint64(b[72:])
	h.compatible = be.Uint64(b[80:])
	h.autoclear = be.Uint64(b[88:])
	h.refcountOrder = be.Uint32(b[96:])
	h.length = be.Uint32(b[100:])
	if h.length >= headerLenOwn && len(b) >= headerLenOwn {
		h.compression = b[104]
	}
	return h, nil
}

func (h *header) clusterSize() int64 { return 1 << h.clusterBits }

// l2EntrySize is larger in images with subclusters.
func (h *header) l2EntrySize() int64 {
	if h.incompatible&incompatExtendedL2 != 0 {
		return 16
	}
	return 8
}

// l1Needed is how many L1 entries the virtual size takes.
func (h *header) l1Needed() uint64 {
	perEntry := uint64(h.clusterSize()) * uint64(h.clusterSize()/h.l2EntrySize())
	return (h.size + perEntry - 1) / perEntry
}

// check looks at the fields that later arithmetic relies on.
func (h *header) check(size int64) error {
	switch {
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return damaged("header.cluster_bits", "is %d; possible are 9 to 21", h.clusterBits)
	case h.size > 1<<62:
		return damaged("header.size", "is %d; possible is up to 2^62", h.size)
	case h.refcountOrder > maxRefcountBits:
		return damaged("header.refcount_order", "is %d; possible are 0 to 6", h.refcountOrder)
	case h.version == 3 && (h.length < headerLenV3 || h.length%8 != 0 || int64(h.length) > h.clusterSize()):
		return damaged("header.header_length", "is %d; possible is a multiple of 8 from 104 to the cluster size of %d", h.length, h.clusterSize())
	case int64(h.length) > size:
		return truncated("the header has %d bytes, the file %d", h.length, size)
	case h.incompatible&incompatExtendedL2 != 0 && h.clusterBits < 14:
		return damaged("header.cluster_bits", "is %d; an image with subclusters has 14 or more", h.clusterBits)
	case h.snapshots > maxSnapshots:
		return damaged("header.nb_snapshots", "is %d; possible is up to %d", h.snapshots, maxSnapshots)
	}
	return h.checkTables(size)
}

func (h *header) checkTables(size int64) error {
	if n := h.l1Needed(); uint64(h.l1Size) < n {
		return damaged("header.l1_size", "is %d; a virtual size of %d bytes needs %d", h.l1Size, h.size, n)
	}
	if int64(h.l1Size)*8 > maxL1Bytes {
		return damaged("header.l1_size", "is %d; possible is up to %d", h.l1Size, maxL1Bytes/8)
	}
	if n := int64(h.refTableClusters) << h.clusterBits; n == 0 || n > maxRefTableBytes {
		return damaged("header.refcount_table_clusters", "is %d, which makes %d bytes; possible is 1 to %d bytes", h.refTableClusters, n, maxRefTableBytes)
	}
	for _, t := range []struct {
		field  string
		offset uint64
		length int64
	}{
		{"header.l1_table_offset", h.l1Offset, int64(h.l1Size) * 8},
		{"header.refcount_table_offset", h.refTableOffset, int64(h.refTableClusters) << h.clusterBits},
		{"header.snapshots_offset", h.snapshotsOffset, int64(min(h.snapshots, 1)) * 40},
	} {
		if t.length == 0 {
			continue
		}
		if err := h.table(t.field, t.offset, t.length, size); err != nil {
			return err
		}
	}
	return nil
}

// table checks that a table begins at a cluster and ends within the file.
func (h *header) table(field string, offset uint64, length, size int64) error {
	if offset == 0 || offset%uint64(h.clusterSize()) != 0 || offset > 1<<62 {
		return damaged(field, "is %d; possible is a multiple of the cluster size of %d", offset, h.clusterSize())
	}
	if end := int64(offset) + length; end > size {
		return truncated("%s points to %d bytes at %d, the file ends at %d", field, length, offset, size)
	}
	return nil
}

// readExtensions walks the header extensions, which lie between the header and
// the backing file's name or the end of the first cluster.
func (h *header) readExtensions(r io.ReaderAt, size int64) error {
	at, end := int64(h.length), min(h.clusterSize(), size)
	if h.backingOffset != 0 {
		end = min(end, int64(min(h.backingOffset, 1<<62)))
	}
	for at+8 <= end {
		var lead [8]byte
		if err := readFull(r, lead[:], at); err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(lead[:]), int64(binary.BigEndian.Uint32(lead[4:]))
		at += 8
		if kind == extEnd {
			return nil
		}
		if length > end-at {
			return damaged("header extension", "0x%08x at %d has %d bytes, with %d left for it", kind, at-8, length, end-at)
		}
		if err := h.readExtension(r, kind, at, length); err != nil {
			return err
		}
		at += (length + 7) &^ 7
	}
	return nil
}

func (h *header) readExtension(r io.ReaderAt, kind uint32, at, length int64) error {
	var into *string
	switch kind {
	case extBackingFormat:
		into = &h.backingFormatName
	case extDataFile:
		into = &h.dataFile
	default:
		return nil
	}
	if length > maxBackingName {
		return damaged("header extension", "0x%08x at %d has %d bytes; possible is up to %d", kind, at-8, length, maxBackingName)
	}
	text := make([]byte, length)
	if err := readFull(r, text, at); err != nil {
		return err
	}
	*into = string(text)
	return nil
}

func (h *header) readBackingName(r io.ReaderAt, size int64) error {
	if h.backingOffset == 0 || h.backingSize == 0 {
		return nil
	}
	limit := min(h.clusterSize(), size)
	if h.backingSize > maxBackingName || h.backingOffset > uint64(limit) || int64(h.backingOffset)+int64(h.backingSize) > limit {
		return damaged("header.backing_file_offset", "is %d with %d bytes; the name has up to %d and lies within the first cluster", h.backingOffset, h.backingSize, maxBackingName)
	}
	name := make([]byte, h.backingSize)
	if err := readFull(r, name, int64(h.backingOffset)); err != nil {
		return err
	}
	h.backingName = string(name)
	return nil
}

// readFull reads just len(b) bytes at an offset.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case err == io.EOF:
		return truncated("%d bytes expected at %d, the file has %d of them", len(b), at, n)
	}
	return fmt.Errorf("read image at %d: %w", at, err)
}
