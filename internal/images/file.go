package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// schemeFile is the scheme of URLs that name a file of the node.
	schemeFile = "file"
	// coarseClock is several times the coarsest tick of Linux file systems' time.
	coarseClock = 50 * time.Millisecond
)

// fillFromFile reads a file below Options.FileDir.
func (s *Store) fillFromFile(ctx context.Context, j *job, in *intake) (arrival, error) {
	f, err := s.openLocal(j.url.Path)
	if err != nil {
		return arrival{}, err
	}
	defer f.Close()
	before, err := stateOf(f)
	if err != nil {
		return arrival{}, err
	}
	if tag := before.source().ETag; tag != "" && tag == j.cached.ETag {
		return arrival{}, &known{j.cached.Digest, j.cached.Sent}
	}
	j.prog.setTotal(before.size)
	if err := in.announced(before.size); err != nil {
		return arrival{}, err
	}
	sum, err := in.fill(&localFile{ctx, f, j.prog})
	if err != nil {
		return arrival{}, err
	}
	if after, err := stateOf(f); err != nil || after != before {
		return arrival{}, errors.Join(err, fmt.Errorf("the file changed while it was read: %w", errdefs.ErrUnavailable))
	}
	return arrival{digests: []string{sum}, source: before.source()}, nil
}

// openLocal opens a regular file below FileDir. Neither ".." nor a symbolic link
// leads out of it. The caller closes the file.
func (s *Store) openLocal(path string) (*os.File, error) {
	dir := s.rules().FileDir
	if dir == "" {
		return nil, fmt.Errorf("files of the node are not allowed as images (the setting image-file-dir is empty): %w", errdefs.ErrPermissionDenied)
	}
	name, err := filepath.Rel(dir, path)
	if err != nil || !filepath.IsLocal(name) {
		return nil, fmt.Errorf("not below the image-file-dir %s: %w", dir, errdefs.ErrPermissionDenied)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("image-file-dir: %w", fileError(err))
	}
	defer root.Close()
	// A pipe must not block.
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file: %w", path, errdefs.ErrFailedPrecondition)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// fileError gives an error of the file system its class.
func fileError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
}

// localFile reads a file until the context ends.
type localFile struct {
	ctx  context.Context
	f    io.Reader
	prog *progress
}

func (l *localFile) Read(b []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	n, err := l.f.Read(b)
	l.prog.add(n)
	return n, err
}

// fileState changes with a file's content.
type fileState struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func stateOf(f *os.File) (fileState, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileState{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return fileState{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}

// source remembers the state like a server's ETag, unless the clock of the file
// system is too coarse to show a change that comes now.
func (s fileState) source() source {
	if time.Since(time.Unix(s.ctime.Unix())) < coarseClock {
		return source{}
	}
	return source{ETag: fmt.Sprintf("%+v", s)}
}
