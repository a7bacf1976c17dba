package disks

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// The first sector of a persistent root disk, as Virtlet wrote it: magic, version
// and the image's digest, big endian, then nothing that counts. The guest's disk
// is what follows the sector.
const (
	rootMagic   = uint64(0x263dbe52ba576702)
	rootVersion = 1

	rootVersionAt = 8
	rootDigestAt  = 10
	rootHeaderLen = rootDigestAt + sha256.Size

	// RootOffset is where the guest's disk begins on a persistent root device,
	// in bytes.
	RootOffset = int64(sector)
)

// RootState is what a persistent root device holds.
type RootState int

// The states.
const (
	// RootFresh: no root disk of ours, or one that was never finished.
	RootFresh RootState = iota
	// RootSame: a root disk made from the same image.
	RootSame
	// RootOther: a root disk made from another image.
	RootOther
)

// String names the state.
func (s RootState) String() string {
	switch s {
	case RootFresh:
		return "fresh"
	case RootSame:
		return "same image"
	case RootOther:
		return "other image"
	}
	return fmt.Sprintf("RootState(%d)", int(s))
}

// RootVersionError says that a device was written by a newer version of its
// writer: what follows the version is not known, and nothing of it is touched.
type RootVersionError struct{ Version int }

// Error names both versions.
func (e *RootVersionError) Error() string {
	return fmt.Sprintf("unsupported persistent root metadata version %d: supported is %d; the device is left as it is", e.Version, rootVersion)
}

// ReadRootHeader tells what the first bytes of a device (42 or more) say about it,
// given the SHA-256 of the image that it shall hold, and which image it holds, if
// one. An error is a *RootVersionError.
func ReadRootHeader(head []byte, want [sha256.Size]byte) (state RootState, holds [sha256.Size]byte, err error) {
	be := binary.BigEndian
	if len(head) < rootHeaderLen || be.Uint64(head) != rootMagic {
		return RootFresh, holds, nil
	}
	if v := be.Uint16(head[rootVersionAt:]); v != rootVersion {
		return RootFresh, holds, &RootVersionError{Version: int(v)}
	}
	copy(holds[:], head[rootDigestAt:])
	if holds == want {
		return RootSame, holds, nil
	}
	return RootOther, holds, nil
}

// RootHeader is the first sector of a device that holds the image of that digest.
func RootHeader(image [sha256.Size]byte) []byte {
	be := binary.BigEndian
	b := make([]byte, 0, sector)
	b = be.AppendUint64(b, rootMagic)
	b = be.AppendUint16(b, rootVersion)
	b = append(b, image[:]...)
	return b[:sector]
}
