// Package unixsock makes the daemon's unix sockets.
package unixsock

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// maxPath is how long the path of a unix socket can be: sun_path has 108
// bytes, the last one is 0 (unix(7)).
const maxPath = 107

// dialTimeout bounds the question whether somebody answers.
const dialTimeout = 2 * time.Second

// Listen binds a stream socket at path with exactly these permissions. What a
// dead process left there is replaced, by a rename, so that a client sees the
// old socket or the new one and never none; a socket that somebody answers is
// left alone, with an error of the class errdefs.ErrAlreadyExists. Anything
// else at path is left alone too. Closing the listener removes the socket if
// it is still this one.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	l, err := listen(path, mode)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
}

func listen(path string, mode fs.FileMode) (net.Listener, error) {
	if err := check(path); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// Through the descriptor the temporary name is short however deep the
	// directory is.
	sum := crc32.ChecksumIEEE([]byte(filepath.Base(path)))
	temporary := fmt.Sprintf("/proc/self/fd/%d/.%x-%d", dir.Fd(), sum, os.Getpid())
	_ = os.Remove(temporary)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	own, err := install(temporary, path, mode)
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(temporary))
	}
	return &listener{UnixListener: l, path: path, own: own}, nil
}

func install(temporary, path string, mode fs.FileMode) (os.FileInfo, error) {
	if err := os.Chmod(temporary, mode); err != nil {
		return nil, err
	}
	own, err := os.Lstat(temporary)
	if err != nil {
		return nil, err
	}
	return own, os.Rename(temporary, path)
}

// check refuses what must not be replaced.
func check(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("its path has %d bytes, a unix socket allows %d: choose a shorter directory: %w", len(path), maxPath, errdefs.ErrInvalidArgument)
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("a file that is no socket is in the way, move it: %w", errdefs.ErrFailedPrecondition)
	}
	c, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case err == nil:
		_ = c.Close()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("another process answers there, is another daemon running? Stop it or choose another path: %w", errdefs.ErrAlreadyExists)
}

type listener struct {
	*net.UnixListener
	path string
	own  os.FileInfo
}

func (l *listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// Addr tells the path that clients dial, not the temporary one.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }
