package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is kubelet's root directory: a pod's volumes are below
// <root>/pods/<pod UID>.
type Root string

// mark begins the names of files that say whose directories are ours. Such a file
// is there before the directory, and is locked for as long as the pod that it
// belongs to is being started: who is killed meanwhile leaves it unlocked.
const mark = ".run-"

func (r Root) pods() string           { return filepath.Join(string(r), "pods") }
func (r Root) mark(uid string) string { return filepath.Join(r.pods(), mark+uid) }

// Dir is the pod's own directory.
func (r Root) Dir(uid string) string { return filepath.Join(r.pods(), uid) }

// Claim is a pod's directory while the pod is being started, when nothing else
// says yet that it is needed.
type Claim struct {
	// Dir is the pod's directory, which need not be there.
	Dir  string
	file *os.File
}

// Claim announces that the pod's directory is about to be made. The caller
// releases it when the pod can be found by other means.
func (r Root) Claim(uid string) (*Claim, error) {
	if err := os.MkdirAll(r.pods(), 0o700); err != nil {
		return nil, err
	}
	unlock, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := os.OpenFile(r.mark(uid), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("the pod's directory %s: somebody else makes it: %w", r.Dir(uid), err), f.Close())
	}
	return &Claim{Dir: r.Dir(uid), file: f}, nil
}

// Release lets go of the claim, and leaves the directory.
func (c *Claim) Release() error {
	if c == nil || c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close()
}

// lock keeps two from changing the list of pods at a time.
func (r Root) lock() (unlock func(), err error) {
	dir, err := os.Open(r.pods())
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}

// Remove removes the pod's volumes. Those of a pod that was not made here, and
// of none, are left alone.
func (r Root) Remove(uid string) error {
	if _, err := os.Lstat(r.mark(uid)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := removeTree(r.Dir(uid)); err != nil {
		return fmt.Errorf("the pod's volumes: %w", err)
	}
	return os.Remove(r.mark(uid))
}

// Tidy removes the directories of all pods when there are none. Nobody may claim
// one meanwhile.
func (r Root) Tidy() {
	_ = os.Remove(r.pods()) // not empty: somebody else's
	_ = os.Remove(string(r))
}

// Orphans are the pods whose directories were left by who was killed before the
// pod was known to anybody else. known must be asked after this: a pod on both
// lists has been started in between.
func (r Root) Orphans() (uids []string, err error) {
	unlock, err := r.lock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(r.pods())
	for _, e := range entries {
		if uid, is := strings.CutPrefix(e.Name(), mark); is && r.unlocked(uid) {
			uids = append(uids, uid)
		}
	}
	return uids, err
}

func (r Root) unlocked(uid string) bool {
	f, err := os.Open(r.mark(uid))
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}
