package reach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// The DaemonSet of deploy/base.
const (
	DaemonNamespace = "kube-system"
	DaemonSelector  = "app.kubernetes.io/name=qemulet"
	NodeLabel       = "extraRuntime=virtlet"
)

// RelayCommand is what is started in a pod of the DaemonSet.
var RelayCommand = []string{"qemuletctl", "relay"}

// Cluster reaches daemons through the API server.
type Cluster struct {
	config    *rest.Config
	client    dynamic.Interface
	namespace string
	node      string

	mu      sync.Mutex
	daemons map[string]*Daemon // by node
}

// NewCluster makes a Cluster. namespace is that of pods without one, node the only
// one that counts, or "". The caller closes it.
func NewCluster(cfg *rest.Config, namespace, node string) (*Cluster, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &Cluster{config: cfg, client: client, namespace: namespace, node: node, daemons: map[string]*Daemon{}}, nil
}

// String implements Reach.
func (c *Cluster) String() string { return "the cluster of the API server " + c.config.Host }

// Close implements Reach.
func (c *Cluster) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.daemons {
		d.Close()
	}
}

// Daemons implements Reach.
func (c *Cluster) Daemons(ctx context.Context) ([]*Daemon, error) {
	pods, err := c.daemonPods(ctx, c.node)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, c.noDaemon(c.node)
	}
	var all []*Daemon
	for _, p := range pods {
		all = append(all, c.daemon(&p))
	}
	slices.SortFunc(all, func(a, b *Daemon) int { return cmp.Compare(a.Node, b.Node) })
	return all, nil
}

func (c *Cluster) noDaemon(node string) error {
	what := "there are no running pods"
	if node != "" {
		what = "node " + node + " has no running pod"
	}
	return fmt.Errorf("%s with the label %s in namespace %s of %s: "+
		"is qemulet installed, and has the node the label extraRuntime=virtlet? On a node itself qemuletctl needs none", what, DaemonSelector, DaemonNamespace, c)
}

// daemonPods are the DaemonSet's pods that run, one for each node.
func (c *Cluster) daemonPods(ctx context.Context, node string) ([]corev1.Pod, error) {
	o := metav1.ListOptions{LabelSelector: DaemonSelector}
	if node != "" {
		o.FieldSelector = "spec.nodeName=" + node
	}
	all, err := objects[corev1.Pod](ctx, c, "pods", DaemonNamespace, o)
	if err != nil {
		return nil, fmt.Errorf("listing the pods of qemulet's DaemonSet: %w", err)
	}
	all = slices.DeleteFunc(all, func(p corev1.Pod) bool {
		return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil || len(p.Spec.Containers) == 0
	})
	slices.SortFunc(all, func(a, b corev1.Pod) int { return cmp.Compare(a.Spec.NodeName, b.Spec.NodeName) })
	return slices.CompactFunc(all, func(a, b corev1.Pod) bool { return a.Spec.NodeName == b.Spec.NodeName }), nil
}

// daemon is the one on the node of a pod of the DaemonSet.
func (c *Cluster) daemon(p *corev1.Pod) *Daemon {
	c.mu.Lock()
	defer c.mu.Unlock()
	node := p.Spec.NodeName
	if d := c.daemons[node]; d != nil {
		return d
	}
	target := Target{Namespace: p.Namespace, Pod: p.Name, Container: p.Spec.Containers[0].Name}
	way := fmt.Sprintf("by an exec into the pod %s/%s", target.Namespace, target.Pod)
	d := NewDaemon(node, way, func(ctx context.Context) (net.Conn, error) {
		u, err := execURL(c.config, target, RelayCommand)
		if err != nil {
			return nil, err
		}
		exec, err := newExecutor(c.config, u)
		if err != nil {
			return nil, err
		}
		return dialExec(ctx, exec), nil
	})
	c.daemons[node] = d
	return d
}

// Pod implements Reach.
func (c *Cluster) Pod(ctx context.Context, namespace, name string) (*Pod, error) {
	namespace = cmp.Or(namespace, c.namespace)
	p, err := get[corev1.Pod](ctx, c, core("pods"), namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no pod %s/%s in %s", namespace, name, c)
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, err)
	}
	if err := checkVM(p); err != nil {
		return nil, fmt.Errorf("pod %s/%s %w", namespace, name, err)
	}
	if c.node != "" && p.Spec.NodeName != c.node {
		return nil, fmt.Errorf("pod %s/%s is on node %s, and --node says %s", namespace, name, p.Spec.NodeName, c.node)
	}
	daemons, err := c.daemonPods(ctx, p.Spec.NodeName)
	if err != nil {
		return nil, err
	}
	if len(daemons) == 0 {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, c.noDaemon(p.Spec.NodeName))
	}
	return &Pod{PodName: PodName{p.Namespace, p.Name}, Daemon: c.daemon(&daemons[0])}, nil
}

// What makes a pod a VM: Virtlet's annotation, which counts for the proxy too, or
// the RuntimeClass.
const (
	runtimeAnnotation = "kubernetes.io/target-runtime"
	runtimeName       = "virtlet.cloud"
	runtimeClass      = "virtlet"
)

func isVM(p *corev1.Pod) bool {
	class := p.Spec.RuntimeClassName
	return p.Annotations[runtimeAnnotation] == runtimeName || class != nil && *class == runtimeClass
}

func checkVM(p *corev1.Pod) error {
	switch {
	case !isVM(p):
		return fmt.Errorf("is no VM pod: it has neither the annotation %s: %s nor runtimeClassName: %s", runtimeAnnotation, runtimeName, runtimeClass)
	case len(p.Spec.Containers) != 1:
		return fmt.Errorf("has %d containers; a VM pod has exactly one", len(p.Spec.Containers))
	case p.Spec.NodeName == "":
		return errors.New("is not on a node yet; `kubectl describe pod` says what it waits for")
	}
	return nil
}

// Complete implements Reach.
func (c *Cluster) Complete(ctx context.Context, namespace string) ([]PodName, error) {
	all, err := objects[corev1.Pod](ctx, c, "pods", cmp.Or(namespace, c.namespace), metav1.ListOptions{})
	var names []PodName
	for _, p := range all {
		if checkVM(&p) == nil {
			names = append(names, PodName{p.Namespace, p.Name})
		}
	}
	slices.SortFunc(names, func(a, b PodName) int { return strings.Compare(a.String(), b.String()) })
	return names, err
}

// Nodes are the cluster's nodes with the label that the DaemonSet wants, or the
// only one that counts.
func (c *Cluster) Nodes(ctx context.Context) ([]corev1.Node, error) {
	if c.node != "" {
		n, err := get[corev1.Node](ctx, c, core("nodes"), "", c.node)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", c.node, err)
		}
		return []corev1.Node{*n}, nil
	}
	all, err := objects[corev1.Node](ctx, c, "nodes", "", metav1.ListOptions{LabelSelector: NodeLabel})
	if err != nil {
		return nil, fmt.Errorf("listing the nodes: %w", err)
	}
	return all, nil
}

// DaemonPod is the DaemonSet's pod on a node with the daemon there, nil when none
// runs.
func (c *Cluster) DaemonPod(ctx context.Context, node string) (*corev1.Pod, *Daemon, error) {
	pods, err := c.daemonPods(ctx, node)
	if err != nil || len(pods) == 0 {
		return nil, nil, err
	}
	return &pods[0], c.daemon(&pods[0]), nil
}

// HasRuntimeClass tells whether the RuntimeClass of deploy/base is there.
func (c *Cluster) HasRuntimeClass(ctx context.Context) (bool, error) {
	_, err := get[nodev1.RuntimeClass](ctx, c, schema.GroupVersionResource{Group: "node.k8s.io", Version: "v1", Resource: "runtimeclasses"}, "", runtimeClass)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
