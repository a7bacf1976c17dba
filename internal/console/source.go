package console

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// punchStep is how much of the source is freed at once, in bytes.
	punchStep = 64 << 10
	// punchAlign keeps holes on the borders of blocks; others free nothing.
	punchAlign = 4 << 10
)

// source is the file QEMU appends the console's output to. Its consumed part
// is freed by holes: QEMU goes on at the same offsets, and the disk holds only
// what is still to be logged.
type source struct {
	f       *os.File
	punched int64 // bytes freed from the start on
	tried   int64 // the same, when it did not work
}

func openSource(path string) (*source, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("console output of the VM: %w", err)
	}
	return &source{f: f}, nil
}

func (s *source) size() (int64, error) {
	st, err := s.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("console output of the VM: %w", err)
	}
	return st.Size(), nil
}

// read fills b from the offset on. Last says that there is no more by now.
func (s *source) read(b []byte, offset int64) (n int, last bool, err error) {
	n, err = s.f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		return n, true, nil
	}
	if err != nil {
		return n, false, fmt.Errorf("console output of the VM: %w", err)
	}
	return n, false, nil
}

// dataFrom is the first offset, from the given one on, that was not freed.
func (s *source) dataFrom(offset int64) int64 {
	at, err := unix.Seek(int(s.f.Fd()), offset, unix.SEEK_DATA)
	if err != nil {
		return offset // ENXIO at the end of the file; or no support for holes
	}
	return at
}

// lineFrom is the start of the first line after offset, or offset when there
// is none near.
func (s *source) lineFrom(b []byte, offset int64) int64 {
	n, _, err := s.read(b, offset)
	if err != nil {
		return offset
	}
	return offset + int64(bytes.IndexByte(b[:n], '\n')+1)
}

// free gives the disk space well before offset back, in steps. What fails is tried
// again with the next step: it is no reason to stop logging. File systems that
// cannot do it (ext4, xfs, btrfs and tmpfs can) keep the whole file.
func (s *source) free(offset int64) {
	end := (offset - keepBytes) &^ (punchAlign - 1)
	if end-max(s.punched, s.tried) < punchStep {
		return
	}
	s.tried = end
	const how = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if unix.Fallocate(int(s.f.Fd()), how, s.punched, end-s.punched) == nil {
		s.punched = end
	}
}
