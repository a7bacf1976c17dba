package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"

	"github.com/qemulet/qemulet/internal/podrun/objects"
)

// newClaimed is the source behind a PersistentVolume; nil for a claim that is
// bound to none.
func (p *Pod) newClaimed(pv *corev1.PersistentVolume, ro bool) (source, error) {
	if pv == nil {
		return nil, nil
	}
	s, err := p.persistent(pv)
	if err != nil {
		return nil, fmt.Errorf("PersistentVolume %q: %w", pv.Name, err)
	}
	if b, is := s.(*blockVolume); is {
		b.ro = ro
		return b, nil
	}
	if r, is := s.(readOnly); is {
		ro = ro || r.readOnly()
	}
	return &claimed{source: s, name: pv.Name, ro: ro}, nil
}

func (p *Pod) persistent(pv *corev1.PersistentVolume) (source, error) {
	isBlock := objects.VolumeMode(pv.Spec.VolumeMode) == corev1.PersistentVolumeBlock
	local, host, flexible := pv.Spec.Local, pv.Spec.HostPath, pv.Spec.FlexVolume
	switch {
	case local != nil && !filepath.IsAbs(local.Path):
		return nil, fmt.Errorf("local.path %q: accepted is an absolute path", local.Path)
	case local != nil && isBlock:
		return &blockVolume{pv: pv.Name, path: local.Path, capacity: pv.Spec.Capacity.Storage().Value()}, nil
	case local != nil:
		return localDir{path: local.Path}, nil
	case isBlock:
		return nil, fmt.Errorf("volumeMode Block: on one machine a block device is a local volume, this is %q", kindOf(pv.Spec.PersistentVolumeSource))
	case host != nil:
		return newHostPath(host)
	case flexible != nil:
		return p.newFlex(pv.Name, &corev1.FlexVolumeSource{
			Driver: flexible.Driver, FSType: flexible.FSType, ReadOnly: flexible.ReadOnly, Options: flexible.Options,
			SecretRef: localRef(flexible.SecretRef),
		})
	}
	kind := kindOf(pv.Spec.PersistentVolumeSource)
	if kind == "" {
		return nil, errors.New("it has no source: accepted are local, hostPath and flexVolume")
	}
	return nil, fmt.Errorf("%s is not available on one machine: accepted are local, hostPath and flexVolume", kind)
}

func localRef(ref *corev1.SecretReference) *corev1.LocalObjectReference {
	if ref == nil {
		return nil
	}
	return &corev1.LocalObjectReference{Name: ref.Name}
}

// claimed is a source that a claim is bound to.
type claimed struct {
	source
	name string
	ro   bool
}

func (c *claimed) dirName() string { return c.name }
func (c *claimed) readOnly() bool  { return c.ro }

const localPlugin = "kubernetes.io~local-volume"

// localDir is a directory of the machine. kubelet would also mount a device that
// holds a filesystem; to mount what a guest may have written is not done here.
type localDir struct{ path string }

func (localDir) plugin() string { return localPlugin }

func (l localDir) setUp(dir string, m *making) (string, error) {
	info, err := os.Stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.pretend:
		m.note("local.path %q is not on this machine", l.path)
		return dir, makeDir(dir)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("local.path %q is not on this machine", l.path)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("local.path %q is no directory: a device or a file takes volumeMode: Block", l.path)
	}
	return l.path, nil
}

// blockVolume is a device of the machine, or a file in the place of one.
type blockVolume struct {
	pv   string
	path string
	ro   bool
	// capacity is what the PersistentVolume says, in bytes.
	capacity int64
}

func (*blockVolume) plugin() string    { return localPlugin }
func (*blockVolume) block()            {}
func (b *blockVolume) dirName() string { return b.pv }
func (b *blockVolume) readOnly() bool  { return b.ro }

// setUp makes the link that kubelet gives to runtimes.
func (b *blockVolume) setUp(link string, m *making) (string, error) {
	info, err := os.Stat(b.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && m.pretend:
		m.note("local.path %q is not on this machine: a disk of the size that the PersistentVolume has is taken in its place", b.path)
		return link, b.pretend(link)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("local.path %q is not on this machine", b.path)
	case err != nil:
		return "", err
	case info.Mode().Type() != fs.ModeDevice && !info.Mode().IsRegular():
		return "", fmt.Errorf("local.path %q is neither a block device nor a file", b.path)
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return "", err
	}
	return link, os.Symlink(b.path, link)
}

// pretend makes a file with nothing in it in the place of the device.
func (b *blockVolume) pretend(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return errors.Join(touch(file), os.Truncate(file, max(b.capacity, 0)))
}

func (c *claimed) String() string { return "PersistentVolume " + c.name + ", " + c.source.String() }

func (l localDir) String() string { return "local " + l.path }

func (b *blockVolume) String() string { return "PersistentVolume " + b.pv + ", " + b.path }
