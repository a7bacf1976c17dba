package images

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// flushEvery is how much is written before the kernel is asked to begin writing
// it out: the sync at the end then has little left to do. In bytes.
const flushEvery = 16 << 20

// part is a data file while it is being written. It is hashed along the way.
// It keeps a lock on the file, by which other stores on the directory see that
// it is in use. Its methods are for one goroutine.
type part struct {
	f       *os.File
	path    string
	hash    *hasher
	off     int64
	written int64 // bytes of off that are not holes
	flushed int64
	sum     string // after finish
}

// newPart creates a part file in the directory. Its owner ends it with discard
// or rename.
func newPart(dir string) (*part, error) {
	for {
		path := filepath.Join(dir, partPrefix+rand.Text())
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		ours, err := lockNamed(f)
		if ours && err == nil {
			return &part{f: f, path: path, hash: newHasher()}, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
	}
}

// lockNamed locks the file unless somebody else has, and tells whether it still
// has a name: a cleaner may have come between creation and lock.
func lockNamed(f *os.File) (bool, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st.Nlink > 0, nil
}

func (p *part) size() int64    { return p.off }
func (p *part) digest() string { return p.sum }

// reserve gets disk space for a file of that many bytes.
func (p *part) reserve(total int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(p.f.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: p.path, Err: err}
	}
	free := int64(st.Bavail) * st.Bsize
	if need := total - p.off; need > free {
		return p.noSpace(fmt.Sprintf("%d bytes are needed, %d are free", need, free))
	}
	// Downloads side by side now see what is left for them.
	err := unix.Fallocate(int(p.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, total)
	if errors.Is(err, unix.ENOSPC) {
		return p.noSpace(fmt.Sprintf("%d bytes cannot be reserved", total))
	}
	return nil // not every file system can; writing will tell
}

func (p *part) noSpace(detail string) error {
	return fmt.Errorf("no space left in %s: %s: %w", filepath.Dir(p.path), detail, errdefs.ErrResourceExhausted)
}

// readFrom appends all that r has, and calls each after every piece; its error
// ends the reading. Reading and writing go on while the hash is computed.
func (p *part) readFrom(r io.Reader, each func() error) error {
	for {
		buf := p.hash.buffer()
		n, rerr := readSome(r, buf)
		if err := p.write(buf[:n]); err != nil {
			return err
		}
		if err := each(); err != nil {
			return err
		}
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}

// readError marks an error of the source, as opposed to one of our disk.
type readError struct{ err error }

func (e *readError) Error() string   { return e.err.Error() }
func (e *readError) Unwrap() []error { return []error{e.err, errdefs.ErrUnavailable} }

// readSome fills the buffer as far as the reader goes without waiting for long:
// small pieces make small writes.
func readSome(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
		if m < smallRead {
			break
		}
	}
	return n, err
}

// write takes the buffer over.
func (p *part) write(buf []byte) error {
	n, err := p.writeSparse(buf)
	p.hash.add(buf[:n])
	p.off += int64(n)
	if errors.Is(err, unix.ENOSPC) {
		return p.noSpace(fmt.Sprintf("the disk was full after %d bytes", p.off))
	}
	if err != nil {
		return err
	}
	p.flush()
	return nil
}

// holeSize is the least run of zeros, in bytes, that becomes a hole.
const holeSize = 64 << 10

// writeSparse writes the buffer at the part's end and leaves holes for zeros. It
// returns how much of the buffer is in the file.
func (p *part) writeSparse(buf []byte) (int, error) {
	done, dirty := 0, 0 // what is between them is still to be written
	for dirty < len(buf) {
		block := buf[dirty:min(dirty+holeSize, len(buf))]
		if len(block) < holeSize || !allZero(block) {
			dirty += len(block)
			continue
		}
		if n, err := p.writeData(buf[done:dirty], p.off+int64(done)); err != nil {
			return done + n, err
		}
		if err := p.punch(p.off+int64(dirty), int64(len(block))); err != nil {
			return dirty, err
		}
		dirty += len(block)
		done = dirty
	}
	n, err := p.writeData(buf[done:dirty], p.off+int64(done))
	return done + n, err
}

func (p *part) writeData(b []byte, at int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := p.f.WriteAt(b, at)
	p.written += int64(n)
	return n, err
}

// punch ends the part with a hole and gives back what was reserved for it; where
// the file system cannot, zeros cost space and nothing else. The file grows
// first: ext4 gives nothing back that is behind the end.
func (p *part) punch(at, length int64) error {
	if err := p.f.Truncate(at + length); err != nil {
		return err
	}
	_ = unix.Fallocate(int(p.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, length)
	return nil
}

// allZero tells whether there is nothing but zeros.
func allZero(b []byte) bool {
	// Comparing a slice with itself, one byte on, runs at the speed of memory.
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

func (p *part) flush() {
	if p.off-p.flushed < flushEvery {
		return
	}
	// An optimisation: a failure shows up in finish.
	_ = unix.SyncFileRange(int(p.f.Fd()), p.flushed, p.off-p.flushed, unix.SYNC_FILE_RANGE_WRITE)
	p.flushed = p.off
}

// reset empties the part.
func (p *part) reset() error {
	p.hash.sum()
	p.hash, p.off, p.written, p.flushed = newHasher(), 0, 0, 0
	return p.f.Truncate(0)
}

// head returns the first n bytes, or as many as there are.
func (p *part) head(n int64) ([]byte, error) {
	buf := make([]byte, min(n, p.off))
	_, err := p.f.ReadAt(buf, 0)
	return buf, err
}

// finish computes the digest and makes the contents durable.
func (p *part) finish() error {
	p.sum = p.hash.sum()
	// Gives back what was reserved in excess.
	if err := p.f.Truncate(p.off); err != nil {
		return err
	}
	if err := p.f.Chmod(0o400); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return p.noSpace("the disk was full while syncing")
		}
		return err
	}
	return nil
}

// rename gives the part its final path. The part is closed on success.
func (p *part) rename(path string) error {
	if err := os.Rename(p.path, path); err != nil {
		return err
	}
	p.path = ""
	return p.f.Close()
}

// discard removes the file, unless it was renamed. It may be called again.
func (p *part) discard() error {
	if p.path == "" {
		return nil
	}
	p.hash.sum()
	err := errors.Join(os.Remove(p.path), p.f.Close())
	p.path = ""
	return err
}

// cleanParts removes what crashed downloads left in the data directory.
func (s *Store) cleanParts() {
	entries, err := os.ReadDir(s.dataDir)
	if err != nil {
		s.opts.Warn(fmt.Errorf("image store: %w", err))
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), partPrefix) {
			continue
		}
		if err := cleanPart(filepath.Join(s.dataDir, e.Name()), e.Type()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.opts.Warn(fmt.Errorf("image store: leftover not removed: %w", err))
		}
	}
}

func cleanPart(path string, t fs.FileMode) error {
	if t == fs.ModeSymlink {
		return os.Remove(path)
	}
	if !t.IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if ours, err := lockNamed(f); err != nil || !ours {
		return err
	}
	return os.Remove(path)
}
