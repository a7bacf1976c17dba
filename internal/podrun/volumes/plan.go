package volumes

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/qemulet/qemulet/internal/podrun/downward"
	"github.com/qemulet/qemulet/internal/podrun/objects"
)

// Pod is a pod's volumes before they are made.
type Pod struct {
	pod     downward.Pod
	objects *objects.Set
	env     map[string]string
	sources map[string]source // by the volume's name
	order   []string

	// Notes say what is accepted and has no effect, a sentence each.
	Notes []string
}

// source is what makes one volume.
type source interface {
	// String is what it is made of.
	fmt.Stringer
	// setUp makes the volume in dir, where kubelet keeps the volume's files, and
	// returns where its content is: a directory, or a file or device of the host.
	setUp(dir string, m *making) (path string, err error)
	// plugin is the plugin's name as kubelet's directories have it.
	plugin() string
}

// block is a source whose content is a device: setUp's path is it.
type block interface{ block() }

// dirName is a source whose directory is not named after the volume: that of a
// claim is named after what it is bound to.
type dirName interface{ dirName() string }

// readOnly is a source that nobody may write to.
type readOnly interface{ readOnly() bool }

// New finds out which volumes a pod has. env is the container's environment, for
// subPathExpr. All that is wrong is reported together.
func New(pod downward.Pod, set *objects.Set, env map[string]string) (*Pod, error) {
	p := &Pod{pod: pod, objects: set, env: env, sources: map[string]source{}}
	bound, err := set.Bind(pod.Namespace, p.claims())
	errs := []error{err}
	for i := range pod.Spec.Volumes {
		errs = append(errs, p.add(&pod.Spec.Volumes[i], bound))
	}
	c := &pod.Spec.Containers[0]
	errs = append(errs, p.checkMounts(c)...)
	errs = append(errs, p.checkDevices(c)...)
	p.noteUnused(c)
	return p, errors.Join(errs...)
}

// claims are the names of the claims in the order of the volumes.
func (p *Pod) claims() (names []string) {
	for i := range p.pod.Spec.Volumes {
		v := &p.pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, p.pod.Name+"-"+v.Name)
		}
	}
	return names
}

// add takes a volume in. One whose claim is bound to nothing was reported, and
// is in the way of nothing else that is wrong.
func (p *Pod) add(v *corev1.Volume, bound map[string]*corev1.PersistentVolume) error {
	if problems := validation.IsDNS1123Label(v.Name); len(problems) > 0 {
		return fmt.Errorf("spec.volumes: name %q: %s", v.Name, strings.Join(problems, "; "))
	}
	if _, twice := p.sources[v.Name]; twice {
		return fmt.Errorf("spec.volumes: name %q stands there twice", v.Name)
	}
	s, err := p.source(v, bound)
	if err != nil {
		err = fmt.Errorf("spec.volumes: %s: %w", v.Name, err)
	}
	p.sources[v.Name] = s
	p.order = append(p.order, v.Name)
	return err
}

func (p *Pod) source(v *corev1.Volume, bound map[string]*corev1.PersistentVolume) (source, error) {
	switch {
	case v.EmptyDir != nil:
		return newEmptyDir(v.EmptyDir)
	case v.HostPath != nil:
		return newHostPath(v.HostPath)
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil:
		return p.newFiles(v)
	case v.FlexVolume != nil:
		return p.newFlex(v.Name, v.FlexVolume)
	case v.PersistentVolumeClaim != nil:
		return p.newClaimed(bound[v.PersistentVolumeClaim.ClaimName], v.PersistentVolumeClaim.ReadOnly)
	case v.Ephemeral != nil:
		return p.newClaimed(bound[p.pod.Name+"-"+v.Name], false)
	}
	kind := kindOf(v.VolumeSource)
	if kind == "" {
		return newEmptyDir(&corev1.EmptyDirVolumeSource{}) // the API server's default
	}
	return nil, fmt.Errorf("%s is not available on one machine: accepted are %s", kind, accepted)
}

const accepted = "emptyDir, hostPath, configMap, secret, downwardAPI, projected, flexVolume, and persistentVolumeClaim with a PersistentVolume that is local or hostPath"

// checkMounts finds what kubelet or the API server would refuse.
func (p *Pod) checkMounts(c *corev1.Container) (errs []error) {
	seen := map[string]bool{}
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		if err := p.checkMount(m); err != nil {
			errs = append(errs, fmt.Errorf("spec.containers[0].volumeMounts[%d]: %w", i, err))
		}
		if at := ContainerPath(m.MountPath); seen[at] {
			errs = append(errs, fmt.Errorf("spec.containers[0].volumeMounts[%d]: mountPath %q stands there twice", i, m.MountPath))
		} else {
			seen[at] = true
		}
	}
	return errs
}

func (p *Pod) checkMount(m *corev1.VolumeMount) error {
	s, err := p.named(m.Name)
	if err != nil {
		return err
	}
	switch {
	case m.MountPath == "":
		return errors.New("mountPath is missing")
	case m.SubPath != "" && m.SubPathExpr != "":
		return errors.New("subPath and subPathExpr are both given; accepted is one of them")
	}
	if _, is := s.(block); is {
		return fmt.Errorf("volume %q is a block device (volumeMode: Block): it belongs into volumeDevices", m.Name)
	}
	_, err = p.subPath(m)
	return err
}

func (p *Pod) named(name string) (source, error) {
	s, known := p.sources[name]
	if !known {
		return nil, fmt.Errorf("name %q: there is no such volume in spec.volumes", name)
	}
	return s, nil
}

// ContainerPath is a mount's path in the container, made absolute as kubelet does.
func ContainerPath(p string) string { return path.Join("/", p) }

func (p *Pod) checkDevices(c *corev1.Container) (errs []error) {
	seen := map[string]bool{}
	for i, d := range c.VolumeDevices {
		if err := p.checkDevice(d); err != nil {
			errs = append(errs, fmt.Errorf("spec.containers[0].volumeDevices[%d]: %w", i, err))
		}
		if seen[d.DevicePath] {
			errs = append(errs, fmt.Errorf("spec.containers[0].volumeDevices[%d]: devicePath %q stands there twice", i, d.DevicePath))
		}
		seen[d.DevicePath] = true
	}
	return errs
}

func (p *Pod) checkDevice(d corev1.VolumeDevice) error {
	s, err := p.named(d.Name)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(d.DevicePath) || slices.Contains(strings.Split(d.DevicePath, "/"), "..") {
		return fmt.Errorf("devicePath %q: accepted is an absolute path without .. in it", d.DevicePath)
	}
	if _, is := s.(block); s != nil && !is {
		return fmt.Errorf("volume %q is no block device: accepted is a persistentVolumeClaim with volumeMode: Block", d.Name)
	}
	return nil
}

// noteUnused speaks of volumes that kubelet would leave out. FlexVolumes are disks
// of the VM all the same, as they were with older kubelets.
func (p *Pod) noteUnused(c *corev1.Container) {
	used := map[string]bool{}
	for _, m := range c.VolumeMounts {
		used[m.Name] = true
	}
	for _, d := range c.VolumeDevices {
		used[d.Name] = true
	}
	for _, name := range p.order {
		_, flex := p.sources[name].(*flex)
		switch {
		case used[name]:
		case flex:
			p.Notes = append(p.Notes, fmt.Sprintf("spec.volumes: %s: it becomes a disk of the VM, but a kubelet makes only volumes that a volumeMount names: give it one for use in a cluster", name))
		default:
			p.Notes = append(p.Notes, fmt.Sprintf("spec.volumes: %s: nothing mounts it, so it is not made", name))
			delete(p.sources, name)
		}
	}
	p.order = slices.DeleteFunc(p.order, func(name string) bool { return p.sources[name] == nil })
}

// pvName is the name of a source's directory.
func pvName(volume string, s source) string {
	if n, ok := s.(dirName); ok {
		return cmp.Or(n.dirName(), volume)
	}
	return volume
}
