// Package volumes plays the part of kubelet that makes a pod's volumes, in
// kubelet's own layout:
//
//	<root>/pods/<pod UID>/volumes/kubernetes.io~configmap/<name>/..data -> ..2026_01_02_03_04_05.678
//	<root>/pods/<pod UID>/volumes/virtlet~flexvolume_driver/<name>
//	<root>/pods/<pod UID>/volumeDevices/kubernetes.io~local-volume/<name> -> the device
//
// New finds out what a pod asks for and all that is wrong with it, without
// touching anything; a Pod's SetUp makes it, and Root's Remove removes it.
package volumes
