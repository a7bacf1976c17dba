// Package cluster is a Kubernetes of one node for tests: real etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy,
// kubelet, containerd and runc, with criproxy and qemulet as its users would have them. All of it lives in network, mount and PID
// namespaces of its own, below a first process whose end is the end of everything inside.
//
// The programs come from Go modules (kubernetes/, containerd/) and from Debian; "make e2e" builds them and runs the tests.
package cluster
