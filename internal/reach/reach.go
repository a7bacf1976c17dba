package reach

import (
	"context"
	"fmt"
	"strings"

	"github.com/qemulet/qemulet/internal/api"
)

// Reach finds daemons and pods. *Local and *Cluster implement it.
type Reach interface {
	// Daemons are those of all nodes that there are, sorted by their nodes.
	Daemons(ctx context.Context) ([]*Daemon, error)
	// Pod finds a VM pod. namespace is "" when nobody has named one.
	Pod(ctx context.Context, namespace, name string) (*Pod, error)
	// Complete lists the names of VM pods, of all namespaces when that is "".
	Complete(ctx context.Context, namespace string) ([]PodName, error)
	// String says in words which way it is.
	String() string
	// Close ends connections that are not in use.
	Close()
}

// PodName is how a pod is called.
type PodName struct{ Namespace, Name string }

// String is NAMESPACE/NAME.
func (n PodName) String() string { return n.Namespace + "/" + n.Name }

// Pod is a VM pod and the daemon of its node.
type Pod struct {
	PodName
	*Daemon
}

// Path is that of the pod's VM on its daemon, and with more elements of what is
// below it.
func (p *Pod) Path(more ...string) string { return api.VMPath(p.Namespace, p.Name, more...) }

// ParsePod reads NAME or NAMESPACE/NAME. namespace is that of the flag, "" for
// none; both may be given if they agree.
func ParsePod(namespace, text string) (ns, name string, err error) {
	first, second, two := strings.Cut(text, "/")
	if !two {
		first, second = namespace, text
	}
	if second == "" || two && first == "" || strings.Contains(second, "/") {
		return "", "", fmt.Errorf("pod %q: NAME and NAMESPACE/NAME are accepted", text)
	}
	if namespace != "" && first != namespace {
		return "", "", fmt.Errorf("pod %q: --namespace says %q; name one namespace", text, namespace)
	}
	return first, second, nil
}
