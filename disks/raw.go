package disks

import (
	"bytes"
	"io"
)

// RawHeadLen is how much of a file IsBase wants to see, in bytes, or all of it:
// the signature of btrfs comes last.
const RawHeadLen = 0x10040 + 8

// IsBase tells by a file's beginning whether it can be a disk: a qcow2 image,
// or a raw disk with a partition table or a file system. Whether it is intact
// CheckBase says.
func IsBase(head []byte) bool {
	return bytes.HasPrefix(head, []byte(magic)) || isRawDisk(head)
}

// rawSignatures are what partition tables, file systems and volumes have at fixed
// places. Booting from them is up to the firmware and the guest.
func rawSignatures() []struct {
	at    int
	magic string
} {
	return []struct {
		at    int
		magic string
	}{
		{512, "EFI PART"},  // GPT, sectors of 512 bytes
		{4096, "EFI PART"}, // GPT, sectors of 4096 bytes
		{0x438, "\x53\xef"},
		{0, "XFSB"},
		{0x10040, "_BHRfS_M"},
		{3, "NTFS    "},
		{3, "EXFAT   "},
		{54, "FAT1"},
		{82, "FAT32   "},
		{0x400, "\x10\x20\xf5\xf2"}, // F2FS
		{512, "LABELONE"},           // LVM
	}
}

// isRawDisk takes hybrid CDs, which have a partition table as well, for CDs.
func isRawDisk(head []byte) bool {
	if hasAt(head, isoMagicAt, "CD001") {
		return false
	}
	for _, s := range rawSignatures() {
		if hasAt(head, s.at, s.magic) {
			return true
		}
	}
	return isMBR(head)
}

func hasAt(head []byte, at int, magic string) bool {
	return len(head) >= at+len(magic) && string(head[at:at+len(magic)]) == magic
}

// isMBR looks at the signature and at the four entries' status bytes.
func isMBR(head []byte) bool {
	if !hasAt(head, 510, "\x55\xaa") {
		return false
	}
	for at := 446; at < 510; at += 16 {
		if head[at]&0x7f != 0 {
			return false
		}
	}
	return true
}

// rawImage returns what a raw disk is, or nil if the file is none.
func rawImage(r io.ReaderAt, size int64) (*Image, error) {
	head := make([]byte, min(size, RawHeadLen))
	if err := readFull(r, head, 0); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(head, []byte(magic)) || !isRawDisk(head) {
		return nil, nil
	}
	return &Image{Format: Raw, VirtualSize: roundUp(size, sector)}, nil
}
