package console

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// identity tells files apart, also when one is removed and another gets its
// inode number.
type identity struct {
	Dev, Ino uint64
	Birth    int64 // nanoseconds since 1970; 0 where the file system has none
}

func identify(f *os.File) (identity, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil {
		return identity{}, fmt.Errorf("statx %s: %w", f.Name(), err)
	}
	id := identity{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Birth = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return id, nil
}

// logFile is the file people read, in the CRI's format.
type logFile struct {
	f  *os.File
	id identity
}

// openLogFile opens the file for appending, and makes it when it is missing:
// then made is true. Its directory is the caller's (kubelet makes it).
func openLogFile(path string) (_ *logFile, made bool, err error) {
	const flags = os.O_RDWR | os.O_APPEND
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		f, err = os.OpenFile(path, flags|os.O_CREATE, 0o640)
	}
	if err != nil {
		return nil, false, fmt.Errorf("log file %s: %w", path, missingDirectory(path, err))
	}
	l, err := newLogFile(f)
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return l, made, nil
}

func missingDirectory(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("directory %s is missing and has to be made by who asks for the log (kubelet): %w", filepath.Dir(path), err)
	}
	return err
}

func newLogFile(f *os.File) (*logFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("log file %s is a %s, only a regular file is accepted", f.Name(), st.Mode().Type())
	}
	id, err := identify(f)
	if err != nil {
		return nil, err
	}
	return &logFile{f: f, id: id}, nil
}

// append writes b after size, which is the file's. What was written of it is
// taken back on an error, as on a full disk.
func (l *logFile) append(b []byte, size int64) error {
	n, err := l.f.Write(b)
	if err == nil {
		return nil
	}
	if n > 0 {
		err = errors.Join(err, l.f.Truncate(size))
	}
	return fmt.Errorf("log file: %w", err)
}

// size is in bytes. Removed says that the file no longer has a name.
func (l *logFile) size() (size int64, removed bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(l.f.Fd()), &st); err != nil {
		return 0, false, fmt.Errorf("log file %s: %w", l.f.Name(), err)
	}
	return st.Size, st.Nlink == 0, nil
}

// has reports whether the lines that p counts are in the file.
func (l *logFile) has(p position) (bool, error) {
	b := make([]byte, p.Length)
	if _, err := l.f.ReadAt(b, p.Size-p.Length); err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("log file: %w", err)
	}
	return checksum(b) == p.Sum, nil
}

// findRotated looks for the log file with this identity under the names that
// rotation gives: path with something appended. Nil when there is none.
func findRotated(path string, id identity) (*logFile, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("rotated log files of %s: %w", path, err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), base) {
			continue
		}
		if l := openIf(filepath.Join(dir, e.Name()), id); l != nil {
			return l, nil
		}
	}
	return nil, nil
}

// openIf opens a file that has this identity. Any other result is nil: files
// come and go here by others' hands.
func openIf(path string, id identity) *logFile {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	l, err := newLogFile(f)
	if err != nil || l.id != id {
		_ = f.Close()
		return nil
	}
	return l
}
