package kube

import (
	"context"
	"fmt"
	"regexp"

	"github.com/containerd/errdefs"
)

// Kind is a kind of object that holds data.
type Kind string

// The kinds.
const (
	ConfigMap Kind = "ConfigMap"
	Secret    Kind = "Secret"
)

// Pod is who refers to an object. An object is looked for in its namespace.
type Pod struct {
	Namespace, Name, UID string
}

// Source has the data of objects.
type Source interface {
	// Data returns the object's data, a ConfigMap's binaryData included. It
	// belongs to the caller, who must not write that of a Secret to where
	// others can read it.
	Data(ctx context.Context, pod Pod, kind Kind, name string) (map[string][]byte, error)
}

// Objects is the source of a node: a pod that brought objects along has those
// and no others, all other pods have the API server's.
type Objects struct {
	Dir Dir
	API *API
}

// Data implements Source.
func (o Objects) Data(ctx context.Context, pod Pod, kind Kind, name string) (map[string][]byte, error) {
	if o.Dir.Has(pod.UID) {
		return o.Dir.Data(ctx, pod, kind, name)
	}
	return o.API.Data(ctx, pod, kind, name)
}

// objectName is what Kubernetes calls a DNS subdomain. It is safe as a file's
// name and in a URL.
var objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// checkName refuses what no object can be called.
func checkName(kind Kind, name string) error {
	if objectName.MatchString(name) {
		return nil
	}
	return as(errdefs.ErrInvalidArgument, "%q cannot be the name of a %s: accepted are lower case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253",
		shorten(name), kind)
}

// of names an object in messages.
func of(kind Kind, namespace, name string) string {
	return fmt.Sprintf("%s %s/%s", kind, namespace, name)
}

func shorten(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "..."
}
