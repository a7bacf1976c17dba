package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// API is the cluster's API server. Access is looked for anew for each question,
// so that it may come, go and change while the daemon runs. Its methods may be
// called concurrently.
type API struct {
	// Kubeconfig is a file with server and credentials; "" means the service
	// account of the daemon's own pod.
	Kubeconfig string
	// ServiceAccountDir is where kubelet mounts that; "" is the usual place.
	ServiceAccountDir string
	// Timeout bounds a question about one object, or about all image mappings;
	// 0 is 10 seconds.
	Timeout time.Duration
}

const defaultTimeout = 10 * time.Second

// Data implements Source.
func (a *API) Data(ctx context.Context, pod Pod, kind Kind, name string) (map[string][]byte, error) {
	if err := checkName(kind, name); err != nil {
		return nil, err
	}
	what := of(kind, pod.Namespace, name)
	resource := schema.GroupVersionResource{Version: "v1", Resource: plural(kind)}
	var raw []byte
	err := a.ask(ctx, func(ctx context.Context, c dynamic.Interface) error {
		o, err := c.Resource(resource).Namespace(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			raw, err = o.MarshalJSON()
		}
		return err
	})
	switch {
	case errdefs.IsNotFound(err):
		return nil, as(errdefs.ErrNotFound, "%s does not exist: create it, or name another", what)
	case errdefs.IsPermissionDenied(err):
		return nil, fmt.Errorf("%s: %w; let a Role grant the verb get for %s in namespace %s", what, err, plural(kind), pod.Namespace)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	data, err := decode(kind, raw)
	if err != nil {
		return nil, as(errdefs.ErrUnavailable, "%s: the API server's answer %w", what, err)
	}
	return data, nil
}

func plural(kind Kind) string {
	if kind == Secret {
		return "secrets"
	}
	return "configmaps"
}

// ImageMapping is a VirtletImageMapping.
type ImageMapping struct {
	// Name is its name in MappingNamespace.
	Name string
	// Spec is its spec in JSON, null when it has none.
	Spec []byte
}

// MappingNamespace is the only one whose VirtletImageMappings count.
const MappingNamespace = "kube-system"

// mappings is the resource of Virtlet's CRD.
var mappings = schema.GroupVersionResource{Group: "virtlet.k8s", Version: "v1", Resource: "virtletimagemappings"}

// ImageMappings lists the VirtletImageMappings in any order. There are none
// where the resource is not defined, and where no access is configured, which
// is then not tried.
func (a *API) ImageMappings(ctx context.Context) ([]ImageMapping, error) {
	if !a.Configured() {
		return nil, nil
	}
	var all []ImageMapping
	err := a.ask(ctx, func(ctx context.Context, c dynamic.Interface) error {
		list, err := c.Resource(mappings).Namespace(MappingNamespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, item := range list.Items {
			spec, err := json.Marshal(item.Object["spec"])
			if err != nil {
				return err
			}
			all = append(all, ImageMapping{Name: item.GetName(), Spec: spec})
		}
		return nil
	})
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case errdefs.IsPermissionDenied(err):
		return nil, fmt.Errorf("VirtletImageMappings: %w; let a Role grant the verb list for %s in namespace %s", err, mappings.GroupResource(), MappingNamespace)
	case err != nil:
		return nil, fmt.Errorf("VirtletImageMappings: %w", err)
	}
	return all, nil
}

// ask gives the question a client and a bound, and its error a class.
func (a *API) ask(ctx context.Context, question func(context.Context, dynamic.Interface) error) error {
	client, host, err := a.client()
	if err != nil {
		return err
	}
	limit := cmp.Or(a.Timeout, defaultTimeout)
	tooLong := fmt.Errorf("no answer within %v", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, tooLong)
	defer cancel()
	err = question(ctx, client)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // client-go's words for it are many
	}
	return classify(host, err)
}

// client is for the API server at host.
func (a *API) client() (c dynamic.Interface, host string, err error) {
	cfg, err := a.config()
	if err == nil {
		host, cfg.WarningHandler = cfg.Host, rest.NoWarnings{}
		c, err = dynamic.NewForConfig(cfg)
	}
	if err != nil {
		return nil, "", as(errdefs.ErrUnavailable, "no access to the Kubernetes API: %w", err)
	}
	return c, host, nil
}

// classify says in which class a server's error is.
func classify(host string, err error) error {
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &status) || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) && apierrors.IsNotFound(err):
		return as(errdefs.ErrUnavailable, "the API server %s cannot be asked: %w", host, err)
	case apierrors.IsNotFound(err):
		return as(errdefs.ErrNotFound, "%w", err)
	case apierrors.IsForbidden(err):
		return as(errdefs.ErrPermissionDenied, "%w", err)
	case apierrors.IsUnauthorized(err):
		return as(errdefs.ErrUnavailable, "the API server %s does not accept the daemon's credentials: %w", host, err)
	}
	return as(errdefs.ErrUnavailable, "the API server %s: %w", host, err)
}
