package disks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// ShareOptions say as whom a directory is shared.
type ShareOptions struct {
	// UID and GID are those of the process that will do the guest's reading and
	// writing. If UID is 0, nothing has to be done to let it.
	UID, GID int
	// ReadOnly refuses all writes.
	ReadOnly bool
	// ChownAll gives the directory and all that is in it to UID and GID, on the
	// disk, and maps nothing.
	ChownAll bool
}

// Share is an open directory to be handed to that process.
type Share struct {
	// File is the directory, opened O_PATH. It may be of a mount that has no
	// place in the file system: the mount goes when the last descriptor of it is
	// closed, and there is nothing to undo. The caller closes it.
	File *os.File
	// Mapped tells that the process acts as root there: what root owns on the
	// disk is its own, and what it makes belongs to root.
	Mapped bool
	// Note is why the share is not mapped and what was done instead, for the
	// pod's log; empty if there is nothing to say.
	Note string
}

// OpenShare opens a directory for a process without privileges so that it may do
// in it what root may do with root's files. Where the kernel and the file system
// can map owners (mount_setattr(2), MOUNT_ATTR_IDMAP), nobody's ownership changes
// on the disk. Elsewhere the directory itself, but nothing in it, is given to the
// process, unless it is read-only. A directory that the process's user owns stays
// as it is. Files of other owners are as open to the process as their modes are to
// strangers.
func OpenShare(path string, o ShareOptions) (Share, error) {
	if o.UID < 0 || o.GID < 0 || o.UID > 0 && o.GID == 0 {
		return Share{}, fmt.Errorf("share %s: user %d, group %d: accepted are those of an unprivileged user, or user 0", path, o.UID, o.GID)
	}
	s, err := openShare(path, o)
	if err != nil {
		return Share{}, fmt.Errorf("share %s: %w", path, err)
	}
	return s, nil
}

func openShare(path string, o ShareOptions) (Share, error) {
	owner, err := ownerOf(path)
	if err == nil && o.ChownAll {
		err = chownAll(path, o.UID, o.GID)
	}
	if err != nil {
		return Share{}, err
	}
	if o.ChownAll || o.UID == 0 || owner == o.UID {
		f, err := openPlain(path, o.ReadOnly)
		return Share{File: f}, err
	}
	f, why := mappedMount(path, o)
	if why == nil {
		return Share{File: f, Mapped: true}, nil
	}
	if !unmappable(why) {
		return Share{}, why
	}
	return openUnmapped(path, o, why)
}

func ownerOf(path string) (int, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, &os.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	return int(st.Uid), nil
}

// openUnmapped is what Virtlet did for every share.
func openUnmapped(path string, o ShareOptions, why error) (Share, error) {
	f, err := openPlain(path, o.ReadOnly)
	if err != nil {
		return Share{}, err
	}
	note := fmt.Sprintf("%s: owners cannot be mapped there (%v)", path, why)
	if o.ReadOnly {
		return Share{File: f, Note: note}, nil
	}
	if err := os.Chown(path, o.UID, o.GID); err != nil {
		return Share{File: f, Note: fmt.Sprintf("%s, nor could it be given to the machine's user: %v", note, err)}, nil
	}
	return Share{File: f, Note: fmt.Sprintf("%s: it now belongs to user %d, group %d", note, o.UID, o.GID)}, nil
}

// openPlain maps nothing. A kernel that knows no detached mounts gives the directory
// itself; that it is read-only is then left to the process.
func openPlain(path string, readOnly bool) (*os.File, error) {
	if !readOnly {
		return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	f, err := cloneMount(path, readOnly, nil)
	if err != nil && unmappable(err) {
		return os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	return f, err
}

// unmappable tells whether an error means that something cannot be mapped: the
// kernel is older than 5.12, the file system (or one below it) does not know how,
// a mount below is mapped already, or user namespaces are switched off.
func unmappable(err error) bool {
	for _, e := range []error{unix.ENOSYS, unix.EINVAL, unix.EPERM, unix.EOPNOTSUPP, unix.ENOSPC, unix.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func mappedMount(path string, o ShareOptions) (*os.File, error) {
	users, err := userNamespace(o.UID, o.GID)
	if err != nil {
		return nil, err
	}
	defer users.Close()
	return cloneMount(path, o.ReadOnly, users)
}

// cloneMount makes a mount of a directory, with what is mounted below, that is
// nowhere in the file system.
func cloneMount(path string, readOnly bool, users *os.File) (*os.File, error) {
	const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if users != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(users.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return nil, errors.Join(&os.PathError{Op: "mount_setattr", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

// userNamespace makes a user namespace in which root of the disk is the given user,
// the user is root, and all others are themselves. There is nobody in it: it is a
// map, and goes with the file.
func userNamespace(uid, gid int) (*os.File, error) {
	// A traced process stops before its first instruction, and can only be
	// waited for by the thread that made it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess("/proc/self/exe", []string{"userns"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: swapRoot(uid), GidMappings: swapRoot(gid), GidMappingsEnableSetgroups: true,
		Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}})
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.Pid))
	err = errors.Join(err, p.Kill())
	if _, e := p.Wait(); e != nil && err == nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	return f, nil
}

// swapRoot maps 0 to id and id to 0, and all other ids to themselves.
func swapRoot(id int) []syscall.SysProcIDMap {
	const ids = 1<<32 - 1 // the last one is none
	m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}, {ContainerID: id, HostID: 0, Size: 1}}
	if id > 1 {
		m = append(m, syscall.SysProcIDMap{ContainerID: 1, HostID: 1, Size: id - 1})
	}
	return append(m, syscall.SysProcIDMap{ContainerID: id + 1, HostID: id + 1, Size: ids - id - 1})
}

// chownAll gives a directory away with all that is in it, except what links lead
// to. What is in it may change meanwhile: no step leads out of it.
func chownAll(path string, uid, gid int) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		if err := root.Lchown(filepath.FromSlash(name), uid, gid); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
