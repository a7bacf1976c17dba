package volumes

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/qemulet/qemulet/internal/podrun/objects"
)

// file is one file of a volume.
type file struct {
	data []byte
	mode fs.FileMode
}

// files is a volume whose files come from the API: a configMap, secret,
// downwardAPI or projected one.
type files struct {
	kind  string
	files map[string]file // by path, which is relative and clean
}

func (f *files) plugin() string { return f.kind }
func (*files) readOnly() bool   { return true }

func (f *files) setUp(dir string, _ *making) (string, error) { return dir, writePayload(dir, f.files) }

// defaultMode is the API server's.
const defaultMode int32 = 0o644

func (p *Pod) newFiles(v *corev1.Volume) (source, error) {
	c := &collector{pod: p, files: map[string]file{}, mode: defaultMode}
	f := &files{files: c.files}
	switch {
	case v.ConfigMap != nil:
		f.kind = "kubernetes.io~configmap"
		c.setMode("configMap", v.ConfigMap.DefaultMode)
		c.configMap("configMap", v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.Secret != nil:
		f.kind = "kubernetes.io~secret"
		c.setMode("secret", v.Secret.DefaultMode)
		c.secret("secret", v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.DownwardAPI != nil:
		f.kind = "kubernetes.io~downward-api"
		c.setMode("downwardAPI", v.DownwardAPI.DefaultMode)
		c.downward("downwardAPI", v.DownwardAPI.Items)
	default:
		f.kind = "kubernetes.io~projected"
		c.projected(v.Projected)
	}
	return f, errors.Join(c.errs...)
}

// collector gathers the files of a volume and what is wrong with them.
type collector struct {
	pod   *Pod
	files map[string]file
	mode  int32
	errs  []error
}

func (c *collector) bad(field string, err error) {
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", field, err))
	}
}

func (c *collector) setMode(field string, mode *int32) {
	c.mode = defaultMode
	if mode != nil {
		c.mode = *mode
		c.bad(field+".defaultMode", checkMode(*mode))
	}
}

func checkMode(mode int32) error {
	if mode < 0 || mode > 0o777 {
		return fmt.Errorf("%d: accepted is 0 to 0777, an octal number with its 0 in front", mode)
	}
	return nil
}

func (c *collector) configMap(field, name string, items []corev1.KeyToPath, optional *bool) {
	data, err := c.pod.objects.ConfigMap(name, optional)
	c.bad(field, err)
	c.keys(field, fmt.Sprintf("ConfigMap %q", name), data, items, optional, err)
}

func (c *collector) secret(field, name string, items []corev1.KeyToPath, optional *bool) {
	data, err := c.pod.objects.Secret(name, optional)
	c.bad(field, err)
	c.keys(field, fmt.Sprintf("Secret %q", name), data, items, optional, err)
}

// keys adds all keys as files, or the chosen ones.
func (c *collector) keys(field, object string, data map[string][]byte, items []corev1.KeyToPath, optional *bool, err error) {
	if err != nil {
		return
	}
	for key, value := range data {
		if len(items) == 0 {
			c.add(field, key, nil, value)
		}
	}
	for i, item := range items {
		value, ok := data[item.Key]
		switch {
		case ok:
			c.add(fmt.Sprintf("%s.items[%d]", field, i), item.Path, item.Mode, value)
		case !objects.IsTrue(optional):
			c.bad(fmt.Sprintf("%s.items[%d]", field, i), fmt.Errorf("%s has no key %q", object, item.Key))
		}
	}
}

func (c *collector) downward(field string, items []corev1.DownwardAPIVolumeFile) {
	for i, item := range items {
		at := fmt.Sprintf("%s.items[%d]", field, i)
		value, err := c.field(item)
		c.bad(at, err)
		if err == nil {
			c.add(at, item.Path, item.Mode, []byte(value))
		}
	}
}

func (c *collector) field(item corev1.DownwardAPIVolumeFile) (string, error) {
	switch {
	case item.FieldRef != nil:
		return c.pod.pod.FileField(item.FieldRef.FieldPath)
	case item.ResourceFieldRef != nil && item.ResourceFieldRef.ContainerName == "":
		return "", errors.New("resourceFieldRef.containerName is missing")
	case item.ResourceFieldRef != nil:
		return c.pod.pod.Resource(item.ResourceFieldRef)
	}
	return "", errors.New("neither fieldRef nor resourceFieldRef is given")
}

func (c *collector) projected(v *corev1.ProjectedVolumeSource) {
	c.setMode("projected", v.DefaultMode)
	for i, s := range v.Sources {
		at := fmt.Sprintf("projected.sources[%d].%s", i, kindOf(s))
		switch {
		case s.ConfigMap != nil:
			c.configMap(at, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
		case s.Secret != nil:
			c.secret(at, s.Secret.Name, s.Secret.Items, s.Secret.Optional)
		case s.DownwardAPI != nil:
			c.downward(at, s.DownwardAPI.Items)
		default:
			c.bad(at, errors.New("not available on one machine: accepted are configMap, secret and downwardAPI"))
		}
	}
}

// add takes a file in; of two with one path the later counts, as with kubelet.
func (c *collector) add(field, name string, mode *int32, data []byte) {
	if err := checkPath(name); err != nil {
		c.bad(field, fmt.Errorf("path %q: %w", name, err))
		return
	}
	if mode != nil {
		c.bad(field+".mode", checkMode(*mode))
	}
	m := c.mode
	if mode != nil {
		m = *mode
	}
	c.files[path.Clean(name)] = file{data: data, mode: fs.FileMode(cmp.Or(m, 0)) & 0o777}
}

// checkPath is kubelet's rule for a file of a volume.
func checkPath(name string) error {
	parts := strings.Split(name, "/")
	switch {
	case name == "":
		return errors.New("it is missing")
	case path.IsAbs(name) || len(name) > 4096 || strings.ContainsRune(name, 0):
		return errors.New("accepted is a relative path")
	case strings.HasPrefix(parts[0], ".."):
		return errors.New("it begins with .., which kubelet keeps for itself")
	}
	for _, part := range parts {
		if part == ".." || len(part) > 255 {
			return errors.New("accepted is a relative path without .. in it, of parts of at most 255 bytes")
		}
	}
	return nil
}

// conflict is a path that would have to be both a file and a directory.
func conflict(all map[string]file) error {
	for name := range maps.Keys(all) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, is := all[dir]; is {
				return fmt.Errorf("%q would be a file, and a directory for %q", dir, name)
			}
		}
	}
	return nil
}

func (f *files) String() string { return strings.TrimPrefix(f.kind, "kubernetes.io~") }
