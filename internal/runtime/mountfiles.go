package runtime

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/qemulet/qemulet/cloudinit"
)

// Bounds of what travels in the seed. The API server takes up to 1 MiB for a
// ConfigMap or a Secret; a guest's cloud-init reads all of it into memory.
const (
	maxMountedFile  = 1 << 20
	maxMountedFiles = 8 << 20
)

// mountedFiles are files of the host that cloud-init writes into the guest, as
// they are now: nothing is updated later. What they hold may be secret, and
// is in no error.
type mountedFiles struct {
	files []cloudinit.WriteFile
	bytes int
}

// hostsFile, which kubelet makes for each pod, has the pod's name in it.
const hostsFile = "/etc/hosts"

// readCopies reads what is to be copied into the guest.
func (v *volumes) readCopies() ([]cloudinit.WriteFile, error) {
	var m mountedFiles
	for _, c := range v.copies {
		read := m.addFile
		if c.object {
			read = m.addVolume
		}
		if err := read(c.host, c.guest); err != nil {
			return nil, fmt.Errorf("mount %s of the host's %s: %w", c.mount, c.host, err)
		}
	}
	return m.files, nil
}

// addFile reads a file for the given path in the guest.
func (m *mountedFiles) addFile(hostPath, guestPath string) error {
	f, err := os.OpenFile(hostPath, openMounted, 0)
	if err != nil {
		return err
	}
	return m.add(f, guestPath)
}

// openMounted does not wait for the other end of a FIFO.
const openMounted = os.O_RDONLY | syscall.O_NONBLOCK

// add reads an open file and closes it.
func (m *mountedFiles) add(f *os.File, guestPath string) error {
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is %s and not a file", f.Name(), kindOf(info.Mode()))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxMountedFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxMountedFile {
		return fmt.Errorf("%s has %d bytes: a single file is copied into the guest, up to %d bytes; mount its directory instead", f.Name(), max(info.Size(), int64(len(data))), maxMountedFile)
	}
	if m.bytes += len(data); m.bytes > maxMountedFiles {
		return fmt.Errorf("%s: the files to be copied into the guest have more than %d bytes together", f.Name(), maxMountedFiles)
	}
	m.files = append(m.files, cloudinit.WriteFile{Path: guestPath, Mode: permissions(info), Data: data, Base64: true})
	return nil
}

// permissions are those that a container would see, as numbers.
func permissions(info fs.FileInfo) fs.FileMode {
	return fs.FileMode(info.Sys().(*syscall.Stat_t).Mode & 0o7777)
}

// kindOf is a mode's file type in words.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "no file"
}

// dataLink leads to the current state of a volume that kubelet made of an
// object: everything else in the volume leads through it, or is an older state.
const dataLink = "..data"

// addVolume reads the files of such a volume, each once. kubelet may replace
// them meanwhile; then they are read anew, so that they fit together.
func (m *mountedFiles) addVolume(hostDir, guestDir string) error {
	var err error
	for range 5 {
		all := mountedFiles{files: m.files[:len(m.files):len(m.files)], bytes: m.bytes}
		if err = all.addDir(hostDir, guestDir); err == nil {
			*m = all
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func (m *mountedFiles) addDir(hostDir, guestDir string) error {
	root, err := os.OpenRoot(hostDir)
	if err != nil {
		return err
	}
	defer root.Close()
	data, err := root.OpenRoot(dataLink)
	if errors.Is(err, fs.ErrNotExist) {
		return m.walk(root, guestDir) // a directory within a volume
	}
	if err != nil {
		return err
	}
	defer data.Close()
	if err := m.walk(data, guestDir); err != nil {
		return err
	}
	return stillThere(root, data)
}

// stillThere makes sure that a state was the volume's current one as long as it was read: a directory that is being removed lists fewer
// files than it had, and fails nobody.
func stillThere(root, data *os.Root) error {
	was, err := data.Stat(".")
	if err != nil {
		return err
	}
	is, err := root.Stat(dataLink)
	if err == nil && !os.SameFile(was, is) {
		err = fmt.Errorf("%s leads elsewhere meanwhile: %w", dataLink, fs.ErrNotExist)
	}
	return err
}

// walk adds every file below root. Links to files count as files, as long as
// they stay inside.
func (m *mountedFiles) walk(root *os.Root, guestDir string) error {
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := root.OpenFile(name, openMounted, 0)
		if err != nil {
			return err
		}
		return m.add(f, path.Join(guestDir, name))
	})
}

// hostsName is the fully qualified name of the host in kubelet's hosts file, ""
// if there is none. CRI has no other word for the pod's subdomain. kubelet's own
// lines are an address, the full name and the host name.
func hostsName(hosts []byte, hostname string) string {
	for line := range strings.Lines(string(hosts)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == hostname && strings.HasPrefix(f[1], hostname+".") {
			return f[1]
		}
	}
	return ""
}
