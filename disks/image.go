package disks

import (
	"io"
)

// Format is the format of an image file, by QEMU's name of its driver.
type Format string

// The formats.
const (
	QCow2 Format = "qcow2"
	Raw   Format = "raw"
)

// Image is what a disk image says of itself, a qcow2 file in its header.
type Image struct {
	// Format is QCow2, or Raw where CheckBase says so: then VirtualSize is the
	// only other field.
	Format Format
	// Version of the format, 2 or 3.
	Version int
	// VirtualSize is what a guest sees, in bytes.
	VirtualSize int64
	// ClusterSize in bytes.
	ClusterSize int64
	// BackingFile is the name of the file below, as it stands there, or empty.
	BackingFile string
	// BackingFormat is the format of the file below, or empty if not told.
	BackingFormat Format
	// DataFile tells that guest data lie in another file; DataFileName is its
	// name, as it stands there.
	DataFile     bool
	DataFileName string
	// Encryption is "", "aes", "luks" or "unknown".
	Encryption string
	// Compression of compressed clusters: "zlib", "zstd" or "unknown".
	Compression string
	// Dirty tells that the refcounts may be wrong, Corrupt that the image must
	// not be written to before a repair.
	Dirty, Corrupt bool
	// ExtendedL2 tells that clusters have subclusters.
	ExtendedL2 bool
	// UnknownFeatures are the incompatible feature bits without a meaning yet.
	UnknownFeatures uint64
	// Snapshots is the number of internal snapshots.
	Snapshots int
}

// Inspect reads the header of the size bytes in r. An error is a *FormatError,
// unless r fails. Nothing is read but the header: see CheckBase.
func Inspect(r io.ReaderAt, size int64) (Image, error) {
	h, err := open(r, size)
	if err != nil {
		return Image{}, err
	}
	return h.image(), nil
}

func open(r io.ReaderAt, size int64) (*header, error) {
	if err := recognise(r, size); err != nil {
		return nil, err
	}
	return readHeader(r, size)
}

func (h *header) image() Image {
	return Image{
		Format:          QCow2,
		Version:         int(h.version),
		VirtualSize:     int64(h.size),
		ClusterSize:     h.clusterSize(),
		BackingFile:     h.backingName,
		BackingFormat:   Format(h.backingFormatName),
		DataFile:        h.incompatible&incompatDataFile != 0,
		DataFileName:    h.dataFile,
		Encryption:      nameOf(h.crypt, "", "aes", "luks"),
		Compression:     nameOf(uint32(h.compression), "zlib", "zstd"),
		Dirty:           h.incompatible&incompatDirty != 0,
		Corrupt:         h.incompatible&incompatCorrupt != 0,
		ExtendedL2:      h.incompatible&incompatExtendedL2 != 0,
		UnknownFeatures: h.incompatible &^ incompatKnown,
		Snapshots:       int(h.snapshots),
	}
}

func nameOf(n uint32, names ...string) string {
	if int64(n) < int64(len(names)) {
		return names[n]
	}
	return "unknown"
}
