package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/containerd/errdefs"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxObject bounds a file, in bytes. An API server takes no object above 1.5 MiB.
const maxObject = 4 << 20

// Dir holds the objects that pods of the one-machine mode brought along, in the
// directory of this path:
//
//	<UID of the pod>/configmaps/<name>.json
//	<UID of the pod>/secrets/<name>.json
//
// Each is a v1 object in JSON, readable by its owner only. The directory of a
// pod is there as a whole or not at all. An empty Dir has nothing.
type Dir string

// podUID is safe as a file's name, and never begins with a dot.
var podUID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)

func (d Dir) pod(uid string) string { return filepath.Join(string(d), uid) }

// Has tells whether Put has been called for the pod, and not yet Remove.
func (d Dir) Has(uid string) bool {
	if d == "" || !podUID.MatchString(uid) {
		return false
	}
	info, err := os.Stat(d.pod(uid))
	return err == nil && info.IsDir()
}

// Put writes the objects of a pod, each a *corev1.ConfigMap or *corev1.Secret of
// the pod's namespace, in place of those that it had. A pod without objects
// refers to none, and no API server is asked for it. An error leaves nothing of
// the new ones.
func (d Dir) Put(pod Pod, objects ...metav1.Object) (err error) {
	if d == "" {
		return as(errdefs.ErrFailedPrecondition, "objects of pod %s/%s: no directory is set for them", pod.Namespace, pod.Name)
	}
	if !podUID.MatchString(pod.UID) {
		return as(errdefs.ErrInvalidArgument, "objects of pod %s/%s: %q is no UID", pod.Namespace, pod.Name, shorten(pod.UID))
	}
	files, err := render(pod, objects)
	if err != nil {
		return fmt.Errorf("objects of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	fresh := filepath.Join(string(d), "."+pod.UID+".new")
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("objects of pod %s/%s: %w", pod.Namespace, pod.Name, err), os.RemoveAll(fresh))
		}
	}()
	if err := write(fresh, files); err != nil {
		return err
	}
	if err := os.RemoveAll(d.pod(pod.UID)); err != nil {
		return err
	}
	return os.Rename(fresh, d.pod(pod.UID))
}

// Remove deletes a pod's objects; it need not have any.
func (d Dir) Remove(uid string) error {
	if d == "" || !podUID.MatchString(uid) {
		return nil
	}
	// In one step, so that a reader finds all of them or none.
	gone := filepath.Join(string(d), "."+uid+".new")
	err := os.RemoveAll(gone)
	if err == nil {
		err = os.Rename(d.pod(uid), gone)
	}
	if err == nil {
		err = os.RemoveAll(gone)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("objects of a pod: %w", err)
	}
	return nil
}

// render makes the files of a pod, by their paths in its directory.
func render(pod Pod, objects []metav1.Object) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, o := range objects {
		kind, o, err := stored(o)
		if err != nil {
			return nil, err
		}
		if err := checkName(kind, o.GetName()); err != nil {
			return nil, err
		}
		if ns := o.GetNamespace(); ns != "" && ns != pod.Namespace {
			return nil, as(errdefs.ErrInvalidArgument, "%s is not of the pod's namespace, which is %s", of(kind, ns, o.GetName()), pod.Namespace)
		}
		path := fileName(kind, o.GetName())
		if _, twice := files[path]; twice {
			return nil, as(errdefs.ErrInvalidArgument, "%s is given twice", of(kind, pod.Namespace, o.GetName()))
		}
		if files[path], err = json.Marshal(o); err != nil {
			return nil, fmt.Errorf("%s: %w", of(kind, pod.Namespace, o.GetName()), err)
		}
		if len(files[path]) > maxObject {
			return nil, as(errdefs.ErrInvalidArgument, "%s is larger than %d bytes", of(kind, pod.Namespace, o.GetName()), maxObject)
		}
	}
	return files, nil
}

// stored is the object as an API server would keep it: with its type, and
// without stringData.
func stored(o metav1.Object) (Kind, metav1.Object, error) {
	switch o := o.(type) {
	case *corev1.ConfigMap:
		c := o.DeepCopy()
		c.APIVersion, c.Kind = "v1", string(ConfigMap)
		return ConfigMap, c, nil
	case *corev1.Secret:
		s := o.DeepCopy()
		s.APIVersion, s.Kind = "v1", string(Secret)
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		for key, value := range s.StringData {
			s.Data[key] = []byte(value)
		}
		s.StringData = nil
		return Secret, s, nil
	}
	return "", nil, as(errdefs.ErrInvalidArgument, "%T holds no data for pods (accepted: ConfigMap, Secret)", o)
}

func fileName(kind Kind, name string) string {
	if kind == Secret {
		return filepath.Join("secrets", name+".json")
	}
	return filepath.Join("configmaps", name+".json")
}

// write makes a directory anew, for its owner only.
func write(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for path, data := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Data implements Source.
func (d Dir) Data(_ context.Context, pod Pod, kind Kind, name string) (map[string][]byte, error) {
	if err := checkName(kind, name); err != nil {
		return nil, err
	}
	raw, err := d.read(pod, fileName(kind, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, as(errdefs.ErrNotFound, "%s is not among the objects that the pod brought along: put it into the same file as the pod",
			of(kind, pod.Namespace, name))
	}
	if err != nil {
		return nil, as(errdefs.ErrUnavailable, "%s: %w", of(kind, pod.Namespace, name), err)
	}
	data, err := decode(kind, raw)
	if err != nil {
		return nil, as(errdefs.ErrUnavailable, "%s: %s: %w", of(kind, pod.Namespace, name), filepath.Join(d.pod(pod.UID), fileName(kind, name)), err)
	}
	return data, nil
}

func (d Dir) read(pod Pod, name string) ([]byte, error) {
	if !d.Has(pod.UID) {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(filepath.Join(d.pod(pod.UID), name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxObject+1))
	if err == nil && len(raw) > maxObject {
		err = fmt.Errorf("larger than %d bytes", maxObject)
	}
	return raw, err
}

// errNotObject is all that is said of a file that cannot be read: a decoder's
// own words may quote it.
var errNotObject = errors.New("is not a v1 object in JSON")

// decode reads an object's data.
func decode(kind Kind, raw []byte) (map[string][]byte, error) {
	if kind == Secret {
		var s corev1.Secret
		if json.Unmarshal(raw, &s) != nil || s.APIVersion != "v1" || s.Kind != string(Secret) {
			return nil, errNotObject
		}
		return s.Data, nil
	}
	var c corev1.ConfigMap
	if json.Unmarshal(raw, &c) != nil || c.APIVersion != "v1" || c.Kind != string(ConfigMap) {
		return nil, errNotObject
	}
	return configMapData(&c), nil
}

// configMapData joins what is text and what is not; their keys differ.
func configMapData(c *corev1.ConfigMap) map[string][]byte {
	data := make(map[string][]byte, len(c.Data)+len(c.BinaryData))
	for key, value := range c.Data {
		data[key] = []byte(value)
	}
	for key, value := range c.BinaryData {
		data[key] = slices.Clone(value)
	}
	return data
}
