// Package streaming serves attach and port-forward: kubelet asks for a URL
// over CRI and then connects the user to it, with SPDY or WebSocket.
//
// The protocols are those of k8s.io/cri-streaming. Its own server is not used
// because it hides the connection from the sessions: port-forward gets a
// context that never ends, and an attach that only watches a silent guest
// would not notice that its client has left. Here each session's context ends
// with its connection (hijack.go).
package streaming
