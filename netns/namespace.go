package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// createNamespace makes a network namespace and pins it at path, as `ip netns add` does. prepare runs inside it before
// anyone else can see it.
func createNamespace(path string, prepare func() error) error {
	if err := prepareNetnsDir(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("netns: pin network namespace: %w", err)
	}
	_ = file.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netns: make network namespace: %w", err)
		}
		if err := prepare(); err != nil {
			return err
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(self, path, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("netns: pin network namespace at %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, removeNamespace(path))
	}
	return nil
}

// prepareNetnsDir makes the directory a shared mount, so that a namespace that is pinned or removed there is so in the
// mount namespaces of others too (systemd units, pods that mount the directory). Processes doing this at the same time
// are kept apart by the lock that iproute2 uses.
func prepareNetnsDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("netns: lock %s: %w", dir, err)
	}
	err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err = unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("netns: make %s a shared mount: %w", dir, err)
	}
	return nil
}

// openNamespace opens a pinned namespace. The error matches ErrGone when nothing, or something else, is at path.
func openNamespace(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("netns: %s: %w", path, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("netns: open network namespace: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil || st.Type != unix.NSFS_MAGIC {
		_ = file.Close()
		return nil, fmt.Errorf("netns: %s is an ordinary file: %w", path, ErrGone)
	}
	return file, nil
}

// isOwn reports whether a namespace is this process's, in which nothing of a pod is ever to be done.
func isOwn(ns *os.File) bool {
	theirs, err := ns.Stat()
	if err != nil {
		return false
	}
	ours, err := os.Stat("/proc/self/ns/net")
	return err == nil && os.SameFile(ours, theirs)
}

// removeNamespace unpins a namespace. It is no error when there is none.
func removeNamespace(path string) error {
	for {
		// More than one mount may lie on the file after an attempt that was cut off.
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("netns: unpin network namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("netns: remove network namespace: %w", err)
	}
	return nil
}
