package injector

import (
	"bytes"
	"encoding/binary"
	"io"
)

// signatureLen is how much of a partition's beginning tells what is in it.
const signatureLen = 0x10080

// signatures are what is recognised, by a mark and its place.
var signatures = [...]struct {
	name string
	at   int
	mark string
}{
	{"an LVM physical volume", 512, "LABELONE"},
	{"an LVM physical volume", 0, "LABELONE"},
	{"a LUKS volume", 0, "LUKS\xba\xbe"},
	{"a Linux RAID member", 4096, "\xfc\x4e\x2b\xa9"},
	{"a Linux RAID member", 0, "\xfc\x4e\x2b\xa9"},
	{"xfs", 0, "XFSB"},
	{"btrfs", 0x10040, "_BHRfS_M"},
	{"f2fs", 1024, "\x10\x20\xf5\xf2"},
	{"squashfs", 0, "hsqs"},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0"},
	{"ISO9660", 0x8001, "CD001"},
	{"NTFS", 3, "NTFS    "},
	{"exFAT", 3, "EXFAT   "},
	{"FAT", 54, "FAT1"},
	{"FAT", 82, "FAT32"},
	{"swap", 4086, "SWAPSPACE2"},
}

// identify names what a partition holds: "ext4" (also for ext2 and ext3, which
// its driver serves) and "xfs" can be mounted, all others are told to people.
func identify(r io.ReaderAt) string {
	head := make([]byte, signatureLen)
	n, _ := r.ReadAt(head, 0) // what cannot be read is zero
	head = head[:n]
	// First, because it leaves the first 1024 bytes to others.
	if len(head) > 1082 && binary.LittleEndian.Uint16(head[1080:]) == 0xef53 {
		return "ext4"
	}
	for _, s := range signatures {
		if len(head) > s.at && bytes.HasPrefix(head[s.at:], []byte(s.mark)) {
			return s.name
		}
	}
	return "nothing that is known"
}
