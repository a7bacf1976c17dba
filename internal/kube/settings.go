package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// Settings are the objects of a cluster that hold settings of nodes, as they were
// when they were asked for.
type Settings struct {
	// Mappings are the specs of all VirtletConfigMappings in JSON, by name.
	Mappings map[string][]byte
	// Data is the ConfigMap's, nil when there is none.
	Data map[string]string
	// Undefined tells that the cluster does not know VirtletConfigMappings, so that
	// Await is not told of those to come.
	Undefined bool

	versions map[schema.GroupVersionResource]string
}

// settingsMap is the ConfigMap with settings.
const settingsMap = "virtlet-config"

var (
	configMappings = schema.GroupVersionResource{Group: "virtlet.k8s", Version: "v1", Resource: "virtletconfigmappings"}
	configMaps     = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	nodes          = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
)

// onlySettingsMap leaves out all other ConfigMaps, so that a Role can name it.
var onlySettingsMap = fields.OneTermEqualSelector("metadata.name", settingsMap).String()

// Configured tells whether it is known where an API server is.
func (a *API) Configured() bool { return a.Kubeconfig != "" || inPod() }

// Settings asks for the objects with settings.
func (a *API) Settings(ctx context.Context) (*Settings, error) {
	s := &Settings{Mappings: map[string][]byte{}, versions: map[schema.GroupVersionResource]string{}}
	all, err := a.listSettings(ctx, s, configMappings, "")
	if err != nil {
		return nil, err
	}
	for _, item := range all {
		if s.Mappings[item.GetName()], err = json.Marshal(item.Object["spec"]); err != nil {
			return nil, err
		}
	}
	if all, err = a.listSettings(ctx, s, configMaps, onlySettingsMap); err != nil {
		return nil, err
	}
	for _, item := range all {
		if s.Data, _, err = unstructured.NestedStringMap(item.Object, "data"); err != nil {
			return nil, as(errdefs.ErrUnavailable, "%s: %w", of(ConfigMap, MappingNamespace, settingsMap), err)
		}
	}
	return s, nil
}

// listSettings lists one kind of them, and remembers of when the answer is. A
// resource that is not defined has no objects.
func (a *API) listSettings(ctx context.Context, s *Settings, r schema.GroupVersionResource, selector string) ([]unstructured.Unstructured, error) {
	var found []unstructured.Unstructured
	err := a.ask(ctx, func(ctx context.Context, c dynamic.Interface) error {
		list, err := c.Resource(r).Namespace(MappingNamespace).List(ctx, metav1.ListOptions{FieldSelector: selector})
		if err == nil {
			found, s.versions[r] = list.Items, list.GetResourceVersion()
		}
		return err
	})
	switch {
	case errdefs.IsNotFound(err):
		s.Undefined = true
		return nil, nil
	case errdefs.IsPermissionDenied(err):
		return nil, fmt.Errorf("%s: %w; let a Role grant the verbs list and watch for %s in namespace %s", r.Resource, err, r.GroupResource(), MappingNamespace)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r.Resource, err)
	}
	return found, nil
}

// NodeLabels are those of a node.
func (a *API) NodeLabels(ctx context.Context, name string) (map[string]string, error) {
	var labels map[string]string
	err := a.ask(ctx, func(ctx context.Context, c dynamic.Interface) error {
		node, err := c.Resource(nodes).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			labels = node.GetLabels()
		}
		return err
	})
	switch {
	case errdefs.IsNotFound(err):
		return nil, as(errdefs.ErrNotFound, "the cluster has no node %q: is the setting node-name right?", name)
	case errdefs.IsPermissionDenied(err):
		return nil, fmt.Errorf("node %s: %w; let a ClusterRole grant the verb get for nodes", name, err)
	case err != nil:
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return labels, nil
}

// Await returns nil when the objects have changed since they were asked for, or
// after a time, for not everything is told: labels of nodes are not. Its error
// says why changes cannot be waited for.
func (a *API) Await(ctx context.Context, seen *Settings, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	told := make(chan error, len(seen.versions))
	for r, version := range seen.versions {
		go func() { told <- a.awaitOne(ctx, r, version) }()
	}
	if len(seen.versions) == 0 {
		<-ctx.Done()
		return nil
	}
	err := <-told
	cancel()
	for range len(seen.versions) - 1 {
		<-told
	}
	return err
}

func (a *API) awaitOne(ctx context.Context, r schema.GroupVersionResource, version string) error {
	c, host, err := a.client()
	if err != nil {
		return err
	}
	options := metav1.ListOptions{ResourceVersion: version}
	if r == configMaps {
		options.FieldSelector = onlySettingsMap
	}
	w, err := c.Resource(r).Namespace(MappingNamespace).Watch(ctx, options)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", r.Resource, classify(host, err))
	}
	if err != nil {
		return nil
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-w.ResultChan():
			// A watch that ended, or whose version is too old, is a reason to ask anew.
			if !open || event.Type != watch.Bookmark {
				return nil
			}
		}
	}
}
