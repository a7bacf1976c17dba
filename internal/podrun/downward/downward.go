// Package downward reads fields of a pod as the downward API does, for
// environment variables and for files.
package downward

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Pod is a pod and what is known of it once it runs.
type Pod struct {
	*corev1.Pod
	IP   string // "" before there is one
	Node Node
}

// Field is the value of a fieldRef (Kubernetes' page "Downward API").
func (p Pod) Field(path string) (string, error) {
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return lines(p.Labels), nil
	case "metadata.annotations":
		return lines(p.Annotations), nil
	case "spec.nodeName":
		return cmp.Or(p.Spec.NodeName, p.Node.Name), nil
	case "spec.serviceAccountName":
		return cmp.Or(p.Spec.ServiceAccountName, "default"), nil
	case "status.podIP", "status.podIPs":
		return p.IP, nil
	case "status.hostIP", "status.hostIPs":
		return "", nil // one machine has no address as a node
	}
	for prefix, from := range map[string]map[string]string{"metadata.labels": p.Labels, "metadata.annotations": p.Annotations} {
		if key, ok := strings.CutPrefix(path, prefix+"['"); ok && strings.HasSuffix(key, "']") {
			return from[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("fieldRef.fieldPath %q is not known: accepted are metadata.name, .namespace, .uid, .labels['KEY'], .annotations['KEY'], "+
		"spec.nodeName, spec.serviceAccountName and status.podIP", path)
}

// FileField is Field for a file, which may hold all labels or annotations but
// nothing that comes with the pod's network.
func (p Pod) FileField(path string) (string, error) {
	if strings.HasPrefix(path, "status.") || strings.HasPrefix(path, "spec.") {
		return "", fmt.Errorf("fieldRef.fieldPath %q: files can only have fields of metadata", path)
	}
	return p.Field(path)
}

// EnvField is Field for a variable, which holds one value.
func (p Pod) EnvField(path string) (string, error) {
	if path == "metadata.labels" || path == "metadata.annotations" {
		return "", fmt.Errorf("fieldRef.fieldPath %q: a variable holds one of them: write %s['KEY']", path, path)
	}
	return p.Field(path)
}

// lines writes a map the way kubelet does, a quoted value a line.
func lines(m map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s=%q", key, m[key]))
	}
	return strings.Join(all, "\n")
}

// Node is what the machine has, which a container without limits may use.
type Node struct {
	Name   string
	CPUs   int64
	Memory int64 // bytes
}

// ThisNode is this machine.
func ThisNode() Node {
	name, _ := os.Hostname()
	n := Node{Name: strings.ToLower(name)}
	n.CPUs, n.Memory = capacity()
	return n
}
