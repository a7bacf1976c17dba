package injector

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	disk       = "/dev/vda"
	mountPoint = "/root"
)

// errNoRoot tells that the disk is at fault, and not this machine.
var errNoRoot = errors.New("no root file system that can be written")

// root is a root file system, mounted read-only.
type root struct {
	partition  int // 0: the whole disk
	filesystem string
}

func (r root) device() string {
	if r.partition == 0 {
		return disk
	}
	return disk + strconv.Itoa(r.partition)
}

func (r root) String() string {
	if r.partition == 0 {
		return "the disk, which has no partitions"
	}
	return fmt.Sprintf("partition %d", r.partition)
}

// findRoot mounts the first partition with a root file system. Those that have
// none are named in the error, with what they hold.
func findRoot() (root, error) {
	all, err := partitions()
	if err != nil {
		return root{}, err
	}
	if err := os.MkdirAll(mountPoint, 0o755); err != nil {
		return root{}, err
	}
	var found []string
	for _, r := range all {
		what, err := r.open()
		if err == nil {
			return r, nil
		}
		found = append(found, fmt.Sprintf("%v: %s", r, what))
	}
	return root{}, fmt.Errorf("%w: %s; needed is ext2, ext3, ext4 or xfs with /etc and one of /usr and /bin, directly on the disk or in a partition",
		errNoRoot, strings.Join(found, ", "))
}

// partitions are those that the kernel sees, by number; a disk without any
// stands for itself.
func partitions() ([]root, error) {
	if _, err := os.Stat(disk); err != nil {
		return nil, fmt.Errorf("the kernel has not found the disk: %w", err)
	}
	files, err := filepath.Glob("/sys/block/vda/vda*/partition")
	if err != nil {
		return nil, err
	}
	var all []root
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
		if err != nil {
			return nil, err
		}
		all = append(all, root{partition: n})
	}
	if len(all) == 0 {
		all = append(all, root{})
	}
	slices.SortFunc(all, func(a, b root) int { return cmp.Compare(a.partition, b.partition) })
	return all, nil
}

// open mounts a partition if it holds a root file system, and says otherwise
// what it holds. A journal that was not written back is, by the kernel, also
// when it mounts read-only.
func (r *root) open() (what string, err error) {
	f, err := os.Open(r.device())
	if err != nil {
		return err.Error(), err
	}
	what = identify(f)
	f.Close()
	if what != "ext4" && what != "xfs" {
		return what, errNoRoot
	}
	r.filesystem = what
	if err := unix.Mount(r.device(), mountPoint, what, unix.MS_RDONLY|unix.MS_NOATIME, ""); err != nil {
		return fmt.Sprintf("%s that cannot be mounted (%v)", what, mountError(err)), err
	}
	if isRoot(mountPoint) {
		return what, nil
	}
	return what + " without a system's directories", errors.Join(errNoRoot, unix.Unmount(mountPoint, 0))
}

// mountError says what the kernel's least clear answers mean.
func mountError(err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("the kernel of this node has no such file system: %w", err)
	case errors.Is(err, unix.EUCLEAN):
		return fmt.Errorf("it is damaged: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("it is damaged, or has features that the kernel of this node lacks: %w", err)
	}
	return err
}

// isRoot tells a root file system from one for /boot, /home or data. /bin is
// often a link to /usr/bin, and some systems have one of the two only.
func isRoot(dir string) bool {
	etc, err := os.Lstat(filepath.Join(dir, "etc"))
	if err != nil || !etc.IsDir() {
		return false
	}
	for _, name := range []string{"usr", "bin"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// write writes all files, and returns when they are on the disk.
func (r root) write() error {
	job, err := readJob()
	if err != nil {
		return err
	}
	if err := unix.Mount("", mountPoint, "", unix.MS_REMOUNT|unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("%s on %v cannot be written: %w", r.filesystem, r, err)
	}
	if err := writeAll(mountPoint, job.Files); err != nil {
		return err
	}
	if err := unix.Unmount(mountPoint, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return syncDisk()
}

func syncDisk() error {
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
