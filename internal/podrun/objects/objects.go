// Package objects holds what a manifest brings along for its pod: ConfigMaps,
// Secrets, claims and the volumes they are bound to. In a cluster the API server
// has them.
package objects

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Set is the objects of a manifest, by their names. Its maps may be nil until
// Add is called.
type Set struct {
	ConfigMaps map[string]*corev1.ConfigMap
	Secrets    map[string]*corev1.Secret
	Claims     map[string]*corev1.PersistentVolumeClaim
	Volumes    map[string]*corev1.PersistentVolume
	Classes    map[string]*storagev1.StorageClass
}

// Add takes an object in; taken is false for kinds that do not belong here. A
// second object of a kind and name is an error.
func (s *Set) Add(object any) (taken bool, err error) {
	switch o := object.(type) {
	case *corev1.ConfigMap:
		return true, add("ConfigMap", o, &s.ConfigMaps)
	case *corev1.Secret:
		return true, add("Secret", o, &s.Secrets)
	case *corev1.PersistentVolumeClaim:
		return true, add("PersistentVolumeClaim", o, &s.Claims)
	case *corev1.PersistentVolume:
		return true, add("PersistentVolume", o, &s.Volumes)
	case *storagev1.StorageClass:
		return true, add("StorageClass", o, &s.Classes)
	}
	return false, nil
}

func add[T metav1.Object](kind string, object T, into *map[string]T) error {
	name := object.GetName()
	if name == "" {
		return fmt.Errorf("%s: metadata.name is missing", kind)
	}
	if _, twice := (*into)[name]; twice {
		return fmt.Errorf("%s %q stands in the file twice", kind, name)
	}
	if *into == nil {
		*into = map[string]T{}
	}
	(*into)[name] = object
	return nil
}

// ConfigMap is the data of a ConfigMap, with that of binaryData. One that is
// optional and not there has none.
func (s *Set) ConfigMap(name string, optional *bool) (map[string][]byte, error) {
	o := s.ConfigMaps[name]
	if o == nil {
		return missing("ConfigMap", name, optional)
	}
	return joined(o.BinaryData, o.Data), nil
}

// Secret is the data of a Secret, with that of stringData, which the API server
// would write over data. One that is optional and not there has none.
func (s *Set) Secret(name string, optional *bool) (map[string][]byte, error) {
	o := s.Secrets[name]
	if o == nil {
		return missing("Secret", name, optional)
	}
	return joined(o.Data, o.StringData), nil
}

// Foreign finds the objects that a pod of this namespace cannot see.
func (s *Set) Foreign(namespace string) (errs []error) {
	errs = append(errs, foreign("ConfigMap", s.ConfigMaps, namespace)...)
	errs = append(errs, foreign("Secret", s.Secrets, namespace)...)
	return append(errs, foreign("PersistentVolumeClaim", s.Claims, namespace)...)
}

func foreign[T metav1.Object](kind string, all map[string]T, namespace string) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if has := all[name].GetNamespace(); has != "" && has != namespace {
			errs = append(errs, fmt.Errorf("%s %q: metadata.namespace %q: the pod is in %q and sees objects of its own namespace only", kind, name, has, namespace))
		}
	}
	return errs
}

func joined(data map[string][]byte, text map[string]string) map[string][]byte {
	all := maps.Clone(data)
	if all == nil {
		all = map[string][]byte{}
	}
	for key, value := range text {
		all[key] = []byte(value)
	}
	return all
}

func missing(kind, name string, optional *bool) (map[string][]byte, error) {
	if IsTrue(optional) {
		return nil, nil
	}
	return nil, fmt.Errorf("%s %q is not in the file; add it as a document of its own", kind, name)
}

// IsTrue reads an optional field whose default is false.
func IsTrue(b *bool) bool { return b != nil && *b }
