package volumes

import (
	"cmp"
	"fmt"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Made is a pod's volumes as a container gets them.
type Made struct {
	Mounts  []*runtimeapi.Mount
	Devices []*runtimeapi.Device
	// From says, by host path, what a volume is made of.
	From map[string]string
}

// making is a set-up under way.
type making struct {
	// pretend keeps it from mounting anything, and from making anything beside
	// the pod's directory: what is not on this machine is taken to be on another.
	pretend bool
	notes   []string
}

func (m *making) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// SetUp makes the volumes in dir, the pod's own directory. What an error leaves
// is removed with that directory.
func (p *Pod) SetUp(dir string) (*Made, error) { return p.setUp(dir, &making{}) }

// Pretend is SetUp for a look at what would be made. It needs no privileges, and
// all of it is a plain tree in dir. The notes say what is missing here.
func (p *Pod) Pretend(dir string) (made *Made, notes []string, err error) {
	m := &making{pretend: true}
	made, err = p.setUp(dir, m)
	return made, m.notes, err
}

func (p *Pod) setUp(dir string, m *making) (*Made, error) {
	paths := map[string]string{}
	for _, name := range p.order {
		s := p.sources[name]
		at := "volumes"
		if _, is := s.(block); is {
			at = "volumeDevices"
		}
		where, err := s.setUp(filepath.Join(dir, at, s.plugin(), pvName(name, s)), m)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", name, err)
		}
		paths[name] = where
	}
	c := &p.pod.Spec.Containers[0]
	mounts, err := p.mounts(c, paths)
	if err != nil {
		return nil, err
	}
	made := &Made{Mounts: mounts, Devices: p.devices(c, paths), From: p.from(paths)}
	for i, m := range mounts { // one for each of the manifest's
		if v := c.VolumeMounts[i]; v.SubPath != "" || v.SubPathExpr != "" {
			made.From[m.HostPath] = fmt.Sprintf("volume %s: %s, its %s", v.Name, p.sources[v.Name], cmp.Or(v.SubPath, v.SubPathExpr))
		}
	}
	return made, nil
}

// from is in words what is at paths, also where links lead to.
func (p *Pod) from(paths map[string]string) map[string]string {
	words := map[string]string{}
	for name, where := range paths {
		text := fmt.Sprintf("volume %s: %s", name, p.sources[name])
		words[where] = text
		if real, err := filepath.EvalSymlinks(where); err == nil {
			words[real] = text
		}
	}
	return words
}

func (p *Pod) isReadOnly(volume string) bool {
	r, ok := p.sources[volume].(readOnly)
	return ok && r.readOnly()
}

var propagations = map[corev1.MountPropagationMode]runtimeapi.MountPropagation{
	corev1.MountPropagationHostToContainer: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER,
	corev1.MountPropagationBidirectional:   runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL,
}

func (p *Pod) mounts(c *corev1.Container, paths map[string]string) (all []*runtimeapi.Mount, err error) {
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		sub, err := p.subPath(m)
		if err != nil {
			return nil, err
		}
		ro := p.isReadOnly(m.Name)
		host, err := inVolume(paths[m.Name], sub, ro)
		if err != nil {
			return nil, fmt.Errorf("volumeMounts: %s: %w", m.Name, err)
		}
		mount := &runtimeapi.Mount{HostPath: host, ContainerPath: ContainerPath(m.MountPath), Readonly: ro || m.ReadOnly}
		if m.MountPropagation != nil {
			mount.Propagation = propagations[*m.MountPropagation]
		}
		all = append(all, mount)
	}
	return all, nil
}

func (p *Pod) devices(c *corev1.Container, paths map[string]string) (all []*runtimeapi.Device) {
	for _, d := range c.VolumeDevices {
		permissions := "mrw"
		if p.isReadOnly(d.Name) {
			permissions = "r"
		}
		all = append(all, &runtimeapi.Device{HostPath: paths[d.Name], ContainerPath: d.DevicePath, Permissions: permissions})
	}
	return all
}
