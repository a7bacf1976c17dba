// Package changes is a number in a file that grows with each change to what a
// process has. Others that were told of it earlier see at a glance, without
// asking, whether that is still true.
package changes

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Beside is the file that belongs to the socket on which a process is asked
// for what it has.
func Beside(socket string) string { return socket + ".changes" }

// Counter is the side that changes. Its methods may be called concurrently.
type Counter struct {
	mu sync.Mutex
	f  *os.File
	n  uint64
}

// Open goes on counting in the file, or begins one. That is a change in itself:
// nobody knows what the last owner of the file did. The caller closes it.
func Open(path string) (*Counter, error) {
	last, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		// No number of a file that was here before.
		last, err = uint64(time.Now().UnixNano()), nil
	}
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	c := &Counter{f: f, n: last}
	return c, c.Count()
}

// Count tells that something has changed. A file in which that cannot be
// written is removed: nobody may trust it.
func (c *Counter) Count() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if _, err := c.f.WriteAt(binary.NativeEndian.AppendUint64(nil, c.n), 0); err != nil {
		return errors.Join(err, os.Remove(c.f.Name()))
	}
	return nil
}

// Close leaves the file to the next owner.
func (c *Counter) Close() error { return c.f.Close() }

// Read returns the number.
func Read(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var raw [8]byte
	if _, err := f.ReadAt(raw[:], 0); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(raw[:]), nil
}
