package flexvolume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mount leaves the volume's options in its directory, twice: in the directory
// itself, where a daemon in another mount namespace sees them, and in a tmpfs over
// it, which kubelet looks for to know that there is something to unmount. A volume
// that is there already keeps its identity.
func (d Driver) mount(dir, options string) error {
	data, err := d.prepare(dir, options)
	if err != nil {
		return err
	}
	return mountData(dir, data)
}

// Write is the call mount without a mount: List finds the volume, kubelet would not.
func (d Driver) Write(dir, options string) error {
	data, err := d.prepare(dir, options)
	if err != nil {
		return err
	}
	return writeData(dir, data)
}

// prepare makes the directory and what its data file is to hold.
func (d Driver) prepare(dir, options string) ([]byte, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	o, err := parseOptions(options)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if o[optionUUID], err = json.Marshal(d.identity(dir)); err != nil {
		return nil, err
	}
	return json.Marshal(o)
}

// parseOptions does not say what was wrong with them: that would quote secrets.
func parseOptions(text string) (map[string]json.RawMessage, error) {
	var o map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &o); err != nil || o == nil {
		return nil, errors.New("options: accepted is a JSON object")
	}
	return o, nil
}

func mountData(dir string, data []byte) error {
	mounted, err := isMountPoint(dir)
	if err != nil {
		return err
	}
	if mounted {
		return writeData(dir, data)
	}
	if err := writeData(dir, data); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=1m"); err != nil {
		return &os.PathError{Op: "mount tmpfs on", Path: dir, Err: err}
	}
	if err := writeData(dir, data); err != nil {
		return errors.Join(err, detach(dir))
	}
	return nil
}

// identity is that of a volume which a call before this one has made, or a new
// one.
func (d Driver) identity(dir string) string {
	var before struct{ UUID string }
	data, err := os.ReadFile(filepath.Join(dir, DataFile))
	if err == nil && json.Unmarshal(data, &before) == nil && before.UUID != "" {
		return before.UUID
	}
	return d.NewUUID()
}

// checkDir refuses what kubelet would never name, for the directory is removed in
// the end with all that is in it.
func checkDir(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || filepath.Dir(filepath.Dir(dir)) == "/" {
		return fmt.Errorf("directory %q: accepted is an absolute path, as kubelet has for a volume of a pod", dir)
	}
	return nil
}

// writeData writes the file as a whole or not at all, for its owner only.
func writeData(dir string, data []byte) error {
	f, err := os.CreateTemp(dir, "."+DataFile+".*.new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, DataFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// unmount removes the directory and what is mounted on it. None is fine.
func unmount(dir string) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	st, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.IsDir():
		return &os.PathError{Op: "unmount", Path: dir, Err: unix.ENOTDIR}
	}
	if err := detach(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// detach unmounts, however often something was mounted, and whoever is still in
// there.
func detach(dir string) error {
	for {
		err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINVAL): // nothing is mounted there
			return nil
		case err != nil:
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
	}
}

// isMountPoint compares devices: what is mounted here is a tmpfs of its own.
func isMountPoint(dir string) (bool, error) {
	var here, above unix.Stat_t
	if err := unix.Lstat(dir, &here); err != nil {
		return false, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	if err := unix.Lstat(filepath.Dir(dir), &above); err != nil {
		return false, &os.PathError{Op: "stat", Path: filepath.Dir(dir), Err: err}
	}
	return here.Dev != above.Dev, nil
}
