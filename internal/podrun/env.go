package podrun

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/podrun/downward"
	"github.com/qemulet/qemulet/internal/podrun/expansion"
	"github.com/qemulet/qemulet/internal/podrun/objects"
)

// environment resolves the container's variables as kubelet does: envFrom
// first, then env in order, $(NAME) replaced by what is known by then.
func (m *Manifest) environment(podIP string) ([]*runtimeapi.KeyValue, error) {
	e := &environment{manifest: m, podIP: podIP, values: map[string]string{}}
	c := &m.Pod.Spec.Containers[0]
	for i, from := range c.EnvFrom {
		if err := e.addFrom(from); err != nil {
			e.errs = append(e.errs, fmt.Errorf("spec.containers[0].envFrom[%d]: %w", i, err))
		}
	}
	for _, v := range c.Env {
		if err := e.add(v); err != nil {
			e.errs = append(e.errs, fmt.Errorf("spec.containers[0].env: %s: %w", v.Name, err))
		}
	}
	if err := errors.Join(e.errs...); err != nil {
		return nil, err
	}
	var all []*runtimeapi.KeyValue
	for _, name := range e.order {
		all = append(all, &runtimeapi.KeyValue{Key: name, Value: []byte(e.values[name])})
	}
	return all, nil
}

type environment struct {
	manifest *Manifest
	podIP    string
	order    []string
	values   map[string]string
	errs     []error
}

func (e *environment) set(name, value string) {
	if _, known := e.values[name]; !known {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

func (e *environment) addFrom(from corev1.EnvFromSource) error {
	var data map[string][]byte
	var err error
	switch {
	case from.ConfigMapRef != nil:
		data, err = e.manifest.ConfigMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		data, err = e.manifest.Secret(from.SecretRef.Name, from.SecretRef.Optional)
	default:
		err = errors.New("neither configMapRef nor secretRef is given")
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		e.set(from.Prefix+key, string(data[key]))
	}
	return err
}

func (e *environment) add(v corev1.EnvVar) error {
	if v.ValueFrom == nil {
		value, _ := expansion.Expand(v.Value, e.values)
		e.set(v.Name, value)
		return nil
	}
	value, ok, err := e.resolve(v.ValueFrom)
	if ok {
		e.set(v.Name, value)
	}
	return err
}

func (e *environment) resolve(from *corev1.EnvVarSource) (value string, ok bool, err error) {
	switch {
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		data, err := e.manifest.ConfigMap(ref.Name, ref.Optional)
		return pick(data, "ConfigMap", ref.Name, ref.Key, ref.Optional, err)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		data, err := e.manifest.Secret(ref.Name, ref.Optional)
		return pick(data, "Secret", ref.Name, ref.Key, ref.Optional, err)
	case from.FieldRef != nil:
		value, err := e.manifest.downward(e.podIP).EnvField(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err := e.manifest.downward(e.podIP).Resource(from.ResourceFieldRef)
		return value, err == nil, err
	}
	return "", false, errors.New("valueFrom names no source: configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef are accepted")
}

func pick(data map[string][]byte, kind, name, key string, optional *bool, err error) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	value, ok := data[key]
	if !ok && !objects.IsTrue(optional) {
		return "", false, fmt.Errorf("%s %q has no key %q", kind, name, key)
	}
	return string(value), ok, nil
}

// downward is the pod as its own downward API shows it.
func (m *Manifest) downward(podIP string) downward.Pod {
	return downward.Pod{Pod: m.Pod, IP: podIP, Node: m.node}
}
