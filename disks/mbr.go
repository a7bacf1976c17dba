package disks

import "encoding/binary"

// The master boot record: the first sector of a disk, with up to four partitions
// of 16 bytes each.
const (
	mbrSignatureAt = 440
	mbrEntryAt     = 446
	mbrEntry       = 16
	mbrMaxSectors  = int64(1)<<32 - 1

	mbrLinux = 0x83
)

// mbr is a boot record with one partition of the type Linux, counted in sectors,
// and nothing to boot. The signature tells disks apart: PARTUUID in the guest
// derives from it.
func mbr(signature uint32, first, sectors int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, sector)
	le.PutUint32(b[mbrSignatureAt:], signature)
	p := b[mbrEntryAt : mbrEntryAt+mbrEntry]
	p[4] = mbrLinux
	// Cylinder, head and sector have their largest values: the sector numbers
	// that follow count.
	copy(p[1:], "\xfe\xff\xff")
	copy(p[5:], "\xfe\xff\xff")
	le.PutUint32(p[8:], uint32(first))
	le.PutUint32(p[12:], uint32(sectors))
	b[510], b[511] = 0x55, 0xaa
	return b
}
