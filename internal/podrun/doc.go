// Package podrun plays kubelet for one manifest on one machine: it reads a
// pod as people write it, turns it into the requests that kubelet would send,
// and speaks CRI to a daemon that may be anywhere on the machine.
//
// It knows nothing of how the daemon works. What it adds to CRI is the
// daemon's api socket, which carries console sessions and the progress of
// downloads.
package podrun
