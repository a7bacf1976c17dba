package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/qemulet/qemulet/internal/reach"
)

// vmHandler is the handler that the proxy adds to those of the other runtime.
const vmHandler = "virtlet"

// cluster looks at all nodes that VMs may be on.
func (v *validation) cluster(ctx context.Context, c *reach.Cluster) {
	switch there, err := c.HasRuntimeClass(ctx); {
	case err != nil:
		v.bad("let a ClusterRole grant the verb get for runtimeclasses.node.k8s.io", "RuntimeClass virtlet: %v", err)
	case !there:
		v.bad("qemuletctl gen | kubectl apply -f -", "there is no RuntimeClass virtlet")
	default:
		v.ok("RuntimeClass virtlet")
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		v.bad("let a ClusterRole grant the verbs get and list for nodes", "%v", err)
		return
	}
	if len(nodes) == 0 {
		v.bad("kubectl label node NODE "+reach.NodeLabel, "no node has the label %s", reach.NodeLabel)
	}
	for _, n := range nodes {
		v.node(ctx, c, &n)
	}
}

func (v *validation) node(ctx context.Context, c *reach.Cluster, n *corev1.Node) {
	if n.Labels["extraRuntime"] != "virtlet" {
		v.bad("kubectl label node "+n.Name+" "+reach.NodeLabel, "node %s lacks the label %s", n.Name, reach.NodeLabel)
	}
	if ready, why := nodeReady(n); ready {
		v.ok("node %s is Ready", n.Name)
	} else {
		v.bad("kubectl describe node "+n.Name, "node %s is not Ready: %s", n.Name, why)
	}
	v.kubelet(n)
	pod, daemon, err := c.DaemonPod(ctx, n.Name)
	switch {
	case err != nil:
		v.bad("let a Role grant the verbs get and list for pods in namespace kube-system", "node %s: %v", n.Name, err)
	case pod == nil:
		v.bad("kubectl -n kube-system describe daemonset qemulet", "node %s has no running pod of the DaemonSet qemulet", n.Name)
	default:
		v.daemonPod(pod)
		v.daemon(ctx, daemon)
	}
}

func nodeReady(n *corev1.Node) (ready bool, message string) {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, c.Message
		}
	}
	return false, "its kubelet has not said so yet"
}

// kubelet tells whether the proxy is in its way: only that knows the handler.
func (v *validation) kubelet(n *corev1.Node) {
	var names []string
	for _, h := range n.Status.RuntimeHandlers {
		if h.Name == vmHandler {
			v.ok("node %s: kubelet knows the handler %s, so it talks through the proxy", n.Name, vmHandler)
			return
		}
		names = append(names, h.Name)
	}
	v.bad("on the node: criproxy doctor", "node %s: kubelet does not know the handler %s, only %q: it does not talk through the proxy", n.Name, vmHandler, names)
}

func (v *validation) daemonPod(p *corev1.Pod) {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			v.ok("node %s: the DaemonSet's pod %s is Ready: all is installed, and its services run", p.Spec.NodeName, p.Name)
			return
		}
	}
	v.bad("kubectl -n kube-system describe pod "+p.Name+"; on the node: qemulet-node-install status",
		"node %s: the DaemonSet's pod %s is not Ready", p.Spec.NodeName, p.Name)
}
