package cloudinit

import (
	"maps"
	"strings"
)

// Paths of the scripts in the guest.
const (
	MountScriptFile   = "/etc/cloud/mount-volumes.sh"
	SymlinkScriptFile = "/etc/cloud/symlink-devs.sh"

	perBootDir = "/var/lib/cloud/scripts/per-boot"
)

// Volumes are the disks and shares of a guest that it shall find under names of
// their own.
type Volumes struct {
	// Devices get links to them.
	Devices []DeviceLink
	// Mounts are mounted, in this order: those above before those below them.
	Mounts []Mount
}

// DeviceLink is a whole disk under a path of its own.
type DeviceLink struct {
	Disk Disk
	// Path is absolute, such as /dev/data.
	Path string
}

// Mount is a disk, a share, or something of the guest's own on a directory.
type Mount struct {
	// Tag is a 9p share's.
	Tag string
	// Bind is a file or directory of the guest that shall be seen at Path too.
	// It is bound when cloud-init's files are written, at the first boot and at
	// each later one; if it is a file, so is Path.
	Bind string
	// Disk is mounted if Tag and Bind are empty.
	Disk Disk
	// Path is the directory, absolute.
	Path     string
	ReadOnly bool
}

// Options of mounts. A share may be missing at a later boot, and the guest shall
// come up nevertheless; its default message size makes 9p slow.
const (
	shareType    = "9p"
	shareOptions = "trans=virtio,msize=262144"
	nofail       = "nofail"
)

// AddTo adds to a seed, after what is in it: the entries of mounts, the scripts as
// files, the commands that link devices and bind files at the first boot and at
// each later one, and the script for MountScriptPlaceholder. In the mounts of s.UserData the
// links, which do not exist yet when cloud-init mounts, are replaced by names of
// the disks themselves; the map is copied for it.
func (v Volumes) AddTo(s *Seed) {
	symlink, mount := v.SymlinkScript(), v.MountScript()
	binds := false
	for _, m := range v.Mounts {
		if m.Bind != "" {
			binds = true // not before the files are written
		} else {
			s.Mounts = append(s.Mounts, m.entry())
		}
	}
	var scripts []string
	for _, script := range []struct{ path, text string }{{SymlinkScriptFile, symlink}, {MountScriptFile, mount}} {
		if script.text != "" {
			s.Files = append(s.Files, WriteFile{Path: script.path, Mode: 0o755, Data: []byte(script.text)})
			scripts = append(scripts, script.text)
		}
	}
	s.MountScript = strings.Join(scripts, "\n")
	if symlink != "" {
		s.runAtBoot(SymlinkScriptFile)
		s.UserData = v.nameDevices(s.UserData)
	}
	if binds {
		s.runAtBoot(MountScriptFile)
	}
}

// runAtBoot runs a script at the first boot and at each later one.
func (s *Seed) runAtBoot(script string) {
	s.RunCmd = append(s.RunCmd, []string{"sh", script}, []string{"mkdir", "-p", perBootDir}, []string{"ln", "-sf", script, perBootDir + "/"})
}

// entry is that of cloud-init's mounts, and of fstab(5).
func (m Mount) entry() []string {
	switch {
	case m.Tag != "":
		// cloud-init's own last field would ask for a check of a file system
		// that has no device.
		return []string{m.Tag, m.Path, shareType, m.withAccess(shareOptions) + "," + nofail, "0", "0"}
	case m.ReadOnly:
		return []string{m.Disk.Name(), m.Path, "auto", m.withAccess("defaults") + "," + nofail}
	}
	return []string{m.Disk.Name(), m.Path} // cloud-init knows what else
}

func (m Mount) withAccess(options string) string {
	if m.ReadOnly {
		return options + ",ro"
	}
	return options
}

// nameDevices replaces the links in the first elements of mounts.
func (v Volumes) nameDevices(userData map[string]any) map[string]any {
	mounts, ok := userData["mounts"].([]any)
	if !ok {
		return userData
	}
	names := map[string]string{}
	for _, d := range v.Devices {
		names[d.Path] = d.Disk.Name()
	}
	replaced := make([]any, len(mounts))
	for i, m := range mounts {
		replaced[i] = nameDevice(m, names)
	}
	userData = maps.Clone(userData)
	userData["mounts"] = replaced
	return userData
}

func nameDevice(mount any, names map[string]string) any {
	entry, ok := mount.([]any)
	if !ok || len(entry) == 0 {
		return mount
	}
	path, _ := entry[0].(string)
	name, ok := names[path]
	if !ok {
		return mount
	}
	return append([]any{name}, entry[1:]...)
}
