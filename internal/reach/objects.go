package reach

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func core(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: resource}
}

// get reads an object; namespace is "" for one that is in none.
func get[T any](ctx context.Context, c *Cluster, resource schema.GroupVersionResource, namespace, name string) (*T, error) {
	o, err := c.client.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	into := new(T)
	return into, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into)
}

// objects reads all objects of a core resource that o selects.
func objects[T any](ctx context.Context, c *Cluster, resource, namespace string, o metav1.ListOptions) ([]T, error) {
	found, err := c.client.Resource(core(resource)).Namespace(namespace).List(ctx, o)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(found.Items))
	for i, item := range found.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}
