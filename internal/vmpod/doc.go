// Package vmpod reads a pod as a virtual machine: CRI's PodSandboxConfig and
// ContainerConfig, with the annotations that Virtlet's users write, become a VM.
//
// It is pure: it reads no file, asks no server and keeps no state. What a pod
// asks for and cannot have is an error that lists every problem at once; what
// has no meaning for a virtual machine, and what containers only are given as
// a convenience, goes to Notes, which belong into the pod's log.
package vmpod
