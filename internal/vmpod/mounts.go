package vmpod

import (
	"fmt"
	"path"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RootDevice is the container path of the device that is the root disk of a VM.
const RootDevice = "/"

// Mount is a file or directory of the host that the guest shall see: an entry
// of volumeMounts, or one that kubelet adds.
type Mount struct {
	// ContainerPath is where in the guest, absolute and clean; no two mounts
	// have the same. HostPath is what, absolute.
	ContainerPath, HostPath string
	ReadOnly                bool
}

// Device is a block device of the host, or a file in place of one: an entry of
// volumeDevices.
type Device struct {
	// ContainerPath is its name in the guest, absolute and clean; no two
	// devices have the same. RootDevice makes it the root disk. HostPath is
	// absolute, and perhaps a symbolic link.
	ContainerPath, HostPath string
	ReadOnly                bool
}

// acceptedPath is what a path in CRI's messages has to be.
const acceptedPath = "an absolute path without line breaks and zero bytes"

func (v *VM) readMounts(mounts []*runtimeapi.Mount, bad *problems) {
	at := map[string]string{}
	for i, m := range mounts {
		field := fmt.Sprintf("mounts[%d]", i)
		if m.GetImage().GetImage() != "" {
			bad.add(field+".image", m.GetImage().GetImage(), "image volumes: "+errNotYet.Error(), "")
			continue
		}
		guest, ok := guestPath(field, m.GetContainerPath(), at, bad)
		if ok && guest == "/" {
			bad.add(field+".container_path", "/", "is the guest's own root", "a directory below it, or a volumeDevices entry for the root disk")
		}
		if checkPath(field+".host_path", m.GetHostPath(), bad) && ok {
			v.Mounts = append(v.Mounts, Mount{ContainerPath: guest, HostPath: m.GetHostPath(), ReadOnly: m.GetReadonly()})
		}
		if m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE {
			v.note("mount " + shorten(m.GetContainerPath()) + ": mountPropagation has no effect on a virtual machine")
		}
	}
}

func (v *VM) readDevices(c *runtimeapi.ContainerConfig, bad *problems) {
	at := map[string]string{}
	for i, d := range c.GetDevices() {
		field := fmt.Sprintf("devices[%d]", i)
		guest, ok := guestPath(field, d.GetContainerPath(), at, bad)
		readOnly := !strings.Contains(d.GetPermissions(), "w")
		if strings.Trim(d.GetPermissions(), "rwm") != "" || !strings.Contains(d.GetPermissions(), "r") {
			bad.add(field+".permissions", d.GetPermissions(), "are no permissions of a disk", "r or rw, with or without m")
		} else if guest == RootDevice && readOnly {
			bad.add(field+".permissions", d.GetPermissions(), "a root disk is written to", "a volume that is not readOnly")
		}
		if checkPath(field+".host_path", d.GetHostPath(), bad) && ok {
			v.Devices = append(v.Devices, Device{ContainerPath: guest, HostPath: d.GetHostPath(), ReadOnly: readOnly})
		}
	}
	for i, d := range c.GetCDIDevices() {
		bad.add(fmt.Sprintf("CDI_devices[%d].name", i), d.GetName(), "CDI devices: "+errNotYet.Error(), "")
	}
}

// guestPath is a container path, cleaned, if it can be one and is the first of
// its kind; at has who has which.
func guestPath(field, text string, at map[string]string, bad *problems) (string, bool) {
	if !checkPath(field+".container_path", text, bad) {
		return "", false
	}
	clean := path.Clean(text)
	if other, taken := at[clean]; taken {
		bad.add(field+".container_path", text, "is that of "+other+" too", "each path once")
		return "", false
	}
	at[clean] = field
	return clean, true
}

func checkPath(field, text string, bad *problems) bool {
	if path.IsAbs(text) && !strings.ContainsAny(text, "\n\r\x00") {
		return true
	}
	bad.add(field, text, "is not the path of a file", acceptedPath)
	return false
}
