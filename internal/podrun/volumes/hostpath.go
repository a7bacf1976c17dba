package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostPath is what is on the machine already, or a directory or file that is made
// there and stays.
type hostPath struct {
	path string
	kind corev1.HostPathType
}

func newHostPath(v *corev1.HostPathVolumeSource) (source, error) {
	h := hostPath{path: v.Path}
	if v.Type != nil {
		h.kind = *v.Type
	}
	switch {
	case !filepath.IsAbs(v.Path) || slices.Contains(strings.Split(v.Path, "/"), ".."):
		return nil, fmt.Errorf("hostPath.path %q: accepted is an absolute path without .. in it", v.Path)
	case kinds[h.kind].accepts == nil && h.kind != corev1.HostPathUnset:
		return nil, fmt.Errorf("hostPath.type %q: accepted are Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice, BlockDevice, or nothing", h.kind)
	}
	return h, nil
}

func (hostPath) plugin() string { return "kubernetes.io~host-path" }

// kinds are hostPath's types: what may be there, and how it is made if nothing is.
var kinds = map[corev1.HostPathType]struct {
	what    string
	accepts func(fs.FileMode) bool
	create  func(path string) error
}{
	corev1.HostPathDirectory:         {"directory", fs.FileMode.IsDir, nil},
	corev1.HostPathDirectoryOrCreate: {"directory", fs.FileMode.IsDir, func(p string) error { return os.MkdirAll(p, 0o755) }},
	corev1.HostPathFile:              {"file", fs.FileMode.IsRegular, nil},
	corev1.HostPathFileOrCreate:      {"file", fs.FileMode.IsRegular, touch},
	corev1.HostPathSocket:            {"socket", func(m fs.FileMode) bool { return m.Type() == fs.ModeSocket }, nil},
	corev1.HostPathCharDev:           {"character device", func(m fs.FileMode) bool { return m.Type() == fs.ModeDevice|fs.ModeCharDevice }, nil},
	corev1.HostPathBlockDev:          {"block device", func(m fs.FileMode) bool { return m.Type() == fs.ModeDevice }, nil},
}

// touch makes an empty file; the directory must be there, as with kubelet.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

func (h hostPath) setUp(dir string, m *making) (string, error) {
	kind := kinds[h.kind]
	info, err := os.Stat(h.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.pretend:
		return h.pretend(dir, m)
	case errors.Is(err, fs.ErrNotExist) && kind.create != nil:
		return h.path, kind.create(h.path)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("hostPath %q is not on this machine", h.path)
	case err != nil:
		return "", err
	case kind.accepts != nil && !kind.accepts(info.Mode()):
		return "", fmt.Errorf("hostPath %q is no %s, as its type %s demands", h.path, kind.what, h.kind)
	}
	return h.path, nil
}

// pretend makes something of the kind that is missing.
func (h hostPath) pretend(dir string, m *making) (string, error) {
	if kinds[h.kind].create == nil {
		m.note("hostPath %q is not on this machine", h.path)
	}
	if h.kind == corev1.HostPathFile || h.kind == corev1.HostPathFileOrCreate {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return "", err
		}
		return dir, touch(dir)
	}
	return dir, makeDir(dir)
}

func (h hostPath) String() string { return "hostPath " + h.path }
