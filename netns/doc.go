// Package netns gives a virtual machine the network of a pod: a pinned network namespace, the pod's CNI network attached
// to it, and per interface a persistent tap that a hypervisor opens, joined to the link the CNI plugins made.
//
// The guest takes the place of a container. It gets the MAC address the plugins gave to the link and learns the
// addresses they assigned by DHCP; the link itself keeps neither, so that the pod's address is on the guest alone:
//
//	node's namespace            pod's namespace                                   guest
//	CNI plugin's end ======== eth0 (no address) <=============> tap0 ============= NIC (MAC and address of the CNI result)
//	                                                             |
//	                                                       DHCP server, bound to the tap
//
// How frames pass between eth0 and the tap is the [Plumbing]: traffic control hands them over, or both are ports of a
// bridge. DHCP does not pass: the server reads and writes raw frames on the tap, and a traffic-control filter drops what
// is addressed to a DHCP port in both directions (see package dhcp).
//
// A [Manager] attaches and detaches pods. What must survive the daemon is on disk: the pinned namespace, libcni's cached
// results, and a journal entry per pod that is written before the first plugin runs and removed after the last one has
// undone its work. What a later daemon needs to serve the pod again is the [Record], which the caller keeps.
//
// Everything that has to happen inside a namespace happens on an operating-system thread that is never reused, or over a
// netlink socket that was opened there. CNI plugins run in the caller's own network namespace, as the specification asks.
package netns
