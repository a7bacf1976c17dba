// Package reach is how a command gets to the daemons of nodes. On a node it is the
// daemon's api socket. From afar it is the API server: an exec into the pod of the
// DaemonSet on the node, in which `qemuletctl relay` copies between the exec's
// streams and that socket. Above that both are the same HTTP.
package reach
