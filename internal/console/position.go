package console

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// position is how far a Log has come. It is written before the lines it
// counts are appended to the log file (see Log.commit), into one of two slots
// by turns, so that there is always one whose lines were all written.
//
// The sizes of its fields are the format of the file.
type position struct {
	Seq    uint64 // one more for each position
	Offset int64  // bytes of Source that are in the log file or were dropped

	File   identity // the log file; zero when there is none
	Size   int64    // its size in bytes when the lines are written
	Length int64    // of these lines, in bytes
	Sum    uint32   // their checksum

	Open    bool // the last line is a P whose line goes on
	_       [3]byte
	Dropped int64 // bytes skipped that no line tells of yet
	Time    int64 // of the last line, nanoseconds since 1970
}

const (
	positionMagic = "qmltpos1"
	slotBytes     = 128
	slots         = 2
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// positionPath is beside the source: console.log -> console.pos.
func positionPath(source string) string {
	return strings.TrimSuffix(source, filepath.Ext(source)) + ".pos"
}

func (p position) encode() ([]byte, error) {
	b, err := binary.Append([]byte(positionMagic), binary.LittleEndian, p)
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, slotBytes-4-len(b))...)
	return binary.LittleEndian.AppendUint32(b, checksum(b)), nil
}

func decodePosition(b []byte) (position, bool) {
	var p position
	body, sum := b[:slotBytes-4], binary.LittleEndian.Uint32(b[slotBytes-4:])
	if string(body[:len(positionMagic)]) != positionMagic || checksum(body) != sum {
		return p, false
	}
	_, err := binary.Decode(body[len(positionMagic):], binary.LittleEndian, &p)
	return p, err == nil
}

// positions is the file in which positions are kept. It is not synced: it has
// to survive the death of the daemon, not of the machine (with which the VM
// dies as well).
type positions struct {
	f    *os.File
	last int // the slot of the position that counts
}

func openPositions(path string) (*positions, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("position of console log: %w", err)
	}
	return &positions{f: f}, nil
}

// load returns the valid positions, latest first, with their slots.
func (s *positions) load() (latest []position, slot []int, err error) {
	var b [slots * slotBytes]byte
	if _, err := s.f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("position of console log: %w", err)
	}
	for i := range slots {
		if p, ok := decodePosition(b[i*slotBytes : (i+1)*slotBytes]); ok {
			latest, slot = append(latest, p), append(slot, i)
		}
	}
	if len(latest) == 2 && latest[0].Seq < latest[1].Seq {
		latest[0], latest[1] = latest[1], latest[0]
		slot[0], slot[1] = slot[1], slot[0]
	}
	return latest, slot, nil
}

// intend writes p beside the position that counts. It is within one page, so
// the kernel writes it whole even when the process is killed.
func (s *positions) intend(p position) error {
	b, err := p.encode()
	if err != nil {
		return err
	}
	if _, err := s.f.WriteAt(b, int64(1-s.last)*slotBytes); err != nil {
		return fmt.Errorf("position of console log: %w", err)
	}
	return nil
}

// commit makes the intended position the one that counts.
func (s *positions) commit() { s.last = 1 - s.last }
