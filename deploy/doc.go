// Package deploy has no code of its own: it is what installs qemulet on a node
// and in a cluster, and its tests. It is a module of its own, so that what these
// tests need of Kubernetes is not among the requirements of the programs. When
// those of ../go.mod change, `go mod tidy` here follows.
package deploy
