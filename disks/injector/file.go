package injector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	newFileMode = 0o644
	newDirMode  = 0o755
	// maxLinks is how many symbolic links in a row are followed, as the kernel does.
	maxLinks = 40

	selinuxLabel = "security.selinux"
)

// writeAll writes the files of a job below dir, which is the root directory to
// all links. Their contents are
// outside of it, and are read before.
func writeAll(dir string, files []File) (err error) {
	contents, err := readContents(len(files))
	if err != nil {
		return err
	}
	leave, err := enter(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	for i, f := range files {
		if err := f.write(contents[i]); err != nil {
			return fmt.Errorf("file %s: %w", f.Path, err)
		}
	}
	return nil
}

func readContents(n int) ([][]byte, error) {
	var all [][]byte
	for i := range n {
		data, err := os.ReadFile(fmt.Sprintf("%s/%d", DataDir, i))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// enter makes dir the root directory of this process, which is what makes a
// link to /run lead to the guest's /run, and no link out of it.
func enter(dir string) (leave func() error, err error) {
	outside, err := os.Open("/")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chdir(dir), unix.Chroot(".")); err != nil {
		return nil, errors.Join(err, outside.Close())
	}
	return func() error {
		return errors.Join(outside.Chdir(), unix.Chroot("."), outside.Close())
	}, nil
}

// write makes the file, with the directories above it. One that is there is
// replaced, and so is a symbolic link: the path shall lead to this content at
// each boot, and a link to /run would not.
func (f File) write(data []byte) error {
	if err := makeDirs(filepath.Dir(f.Path), maxLinks); err != nil {
		return err
	}
	mode, label, err := f.replace()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.Write(data); err != nil {
		return err
	}
	if label != nil {
		// Best effort: without a label SELinux relabels or denies, as for any new file.
		_ = unix.Fsetxattr(int(out.Fd()), selinuxLabel, label, 0)
	}
	// In this order: a change of the owner takes bits from the mode.
	return errors.Join(out.Chown(f.UID, f.GID), out.Chmod(mode), out.Sync())
}

// replace removes what has the file's name, and says with which mode and label
// the file is to be made.
func (f File) replace() (mode fs.FileMode, label []byte, err error) {
	mode = newFileMode
	label = labelOf(filepath.Dir(f.Path))
	old, err := os.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case err != nil:
		return 0, nil, err
	case old.IsDir():
		return 0, nil, errors.New("it is a directory in the image: a file cannot replace it")
	default:
		if old.Mode().IsRegular() {
			mode, label = old.Mode().Perm(), labelOf(f.Path)
		}
		err = os.Remove(f.Path)
	}
	if f.Mode != nil {
		mode = fs.FileMode(*f.Mode).Perm()
	}
	return mode, label, err
}

// labelOf is the SELinux label of a file, nil when it has none.
func labelOf(path string) []byte {
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, selinuxLabel, buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// makeDirs makes a directory and those above it, where they are missing. What a
// symbolic link leads to is made too, if it is missing: images have links into
// directories that come with the first boot.
func makeDirs(dir string, links int) error {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		return fmt.Errorf("%s is not a directory in the image", dir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if target, err := os.Readlink(dir); err == nil {
		if links == 0 {
			return fmt.Errorf("%s: %w", dir, unix.ELOOP)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(dir), target)
		}
		return makeDirs(target, links-1)
	}
	if err := makeDirs(filepath.Dir(dir), links); err != nil {
		return err
	}
	if err := os.Mkdir(dir, newDirMode); err != nil {
		return err
	}
	if label := labelOf(filepath.Dir(dir)); label != nil {
		_ = unix.Lsetxattr(dir, selinuxLabel, label, 0) // best effort, as above
	}
	return nil
}
