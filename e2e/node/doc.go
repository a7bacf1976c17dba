// Package node makes a Kubernetes node out of a network namespace and a temporary folder, runs the real qemulet daemon
// in it, and gives tests what kubelet and an operator would have: a CRI connection, crictl, the console, the logs. And it
// looks for whatever a virtual machine may have left behind.
//
// Nothing outside of the namespace and the folder is touched, but for cgroups below a parent of the node's own. Several
// nodes can live side by side, in one test process or in several.
package node
