package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// lockFile is locked by the daemon that the state directory belongs to.
const lockFile = "qemulet.lock"

// acquire takes the state directory for this process. The lock ends when the
// file is closed, also by the death of the process.
func acquire(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	switch err := flock(f); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(heldError(dir, f), f.Close())
	case err != nil:
		return nil, errors.Join(fmt.Errorf("locking %s: %w", f.Name(), err), f.Close())
	}
	if err := sign(f); err != nil {
		return nil, errors.Join(fmt.Errorf("writing %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// A lock outlives the daemon that was killed while it was starting a process, by the moment until that process has become its own
// program. What is held for longer is held by a daemon.
const (
	lockPatience = time.Second
	lockInterval = 10 * time.Millisecond
)

// flock takes the lock. It has to ask again: flock(2) either waits for ever or not at all.
func flock(f *os.File) error {
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockInterval) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}

// sign writes who holds the lock, for people.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	return err
}

func heldError(dir string, f *os.File) error {
	holder := "another process"
	raw := make([]byte, 32)
	if n, _ := f.ReadAt(raw, 0); n > 0 {
		holder = "process " + strings.TrimSpace(string(raw[:n]))
	}
	return fmt.Errorf("state-dir %s: a daemon is running with it already (%s): stop that one or choose another directory: %w",
		dir, holder, errdefs.ErrAlreadyExists)
}
