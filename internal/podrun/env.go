package podrun

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
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
	var data map[string]string
	var err error
	switch {
	case from.ConfigMapRef != nil:
		data, err = e.manifest.configMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		data, err = e.manifest.secret(from.SecretRef.Name, from.SecretRef.Optional)
	default:
		err = errors.New("neither configMapRef nor secretRef is given")
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		e.set(from.Prefix+key, data[key])
	}
	return err
}

func (e *environment) add(v corev1.EnvVar) error {
	if v.ValueFrom == nil {
		e.set(v.Name, expand(v.Value, e.values))
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
		data, err := e.manifest.configMap(ref.Name, ref.Optional)
		return pick(data, "ConfigMap", ref.Name, ref.Key, ref.Optional, err)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		data, err := e.manifest.secret(ref.Name, ref.Optional)
		return pick(data, "Secret", ref.Name, ref.Key, ref.Optional, err)
	case from.FieldRef != nil:
		value, err := e.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		return "", false, errors.New("valueFrom.resourceFieldRef is not supported on one machine; write the value")
	}
	return "", false, errors.New("valueFrom names no source: configMapKeyRef, secretKeyRef and fieldRef are accepted")
}

func pick(data map[string]string, kind, name, key string, optional *bool, err error) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	value, ok := data[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("%s %q has no key %q", kind, name, key)
	}
	return value, ok, nil
}

// field is kubelet's downward API.
func (e *environment) field(path string) (string, error) {
	pod := e.manifest.Pod
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName", "spec.serviceAccountName", "status.hostIP":
		return "", nil
	case "status.podIP", "status.podIPs":
		return e.podIP, nil
	}
	for prefix, from := range map[string]map[string]string{"metadata.labels": pod.Labels, "metadata.annotations": pod.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix+"['"); ok && strings.HasSuffix(key, "']") {
			return from[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("valueFrom.fieldRef.fieldPath %q is not known", path)
}

func (m *Manifest) configMap(name string, optional *bool) (map[string]string, error) {
	if cm := m.ConfigMaps[name]; cm != nil {
		return cm.Data, nil
	}
	return missing("ConfigMap", name, optional)
}

func (m *Manifest) secret(name string, optional *bool) (map[string]string, error) {
	s := m.Secrets[name]
	if s == nil {
		return missing("Secret", name, optional)
	}
	data := maps.Clone(s.StringData)
	for key, value := range s.Data {
		if data == nil {
			data = map[string]string{}
		}
		data[key] = cmp.Or(data[key], string(value))
	}
	return data, nil
}

func missing(kind, name string, optional *bool) (map[string]string, error) {
	if optional != nil && *optional {
		return nil, nil
	}
	return nil, fmt.Errorf("%s %q is not in the file; add it as a document of its own", kind, name)
}

// expand replaces $(NAME) by known values and $$ by $, and leaves the rest
// alone, as Kubernetes does in env values.
func expand(s string, values map[string]string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i == len(s)-1 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		switch s[0] {
		case '$':
			b.WriteByte('$')
			s = s[1:]
		case '(':
			s = expandReference(&b, s, values)
		default:
			b.WriteByte('$')
		}
	}
}

// expandReference writes what "(NAME)" at the beginning of s stands for and
// returns the rest.
func expandReference(b *strings.Builder, s string, values map[string]string) string {
	end := strings.IndexByte(s, ')')
	if end < 0 {
		b.WriteByte('$')
		return s
	}
	if value, ok := values[s[1:end]]; ok {
		b.WriteString(value)
	} else {
		b.WriteString("$" + s[:end+1])
	}
	return s[end+1:]
}
