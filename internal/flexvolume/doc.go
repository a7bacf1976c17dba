// Package flexvolume is both ends of Virtlet's FlexVolume driver: what kubelet
// calls when a pod with such a volume starts or ends (Driver), and what the daemon
// reads when it makes the pod's VM (List). What lies between them is a file in the
// volume's directory, DataFile, with the volume's options.
package flexvolume
