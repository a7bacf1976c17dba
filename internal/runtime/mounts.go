package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/cloudinit"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/qemu"
)

// addMounts adds what a VM's mounts are in the guest: those above before those
// below them, whatever the manifest's order.
func (v *volumes) addMounts(uid string, mounts []vmpod.Mount) error {
	mounts = slices.Clone(mounts)
	slices.SortStableFunc(mounts, func(a, b vmpod.Mount) int {
		return cmp.Compare(strings.Count(a.ContainerPath, "/"), strings.Count(b.ContainerPath, "/"))
	})
	var bad []error
	for _, m := range mounts {
		if err := v.addMount(uid, m); err != nil {
			bad = append(bad, fmt.Errorf("mount %s of the host's %s: %w", m.ContainerPath, m.HostPath, err))
		}
	}
	return errors.Join(bad...)
}

func (v *volumes) addMount(uid string, m vmpod.Mount) error {
	if f, ok := v.flex[filepath.Clean(m.HostPath)]; ok {
		return v.mountDisk(f, m)
	}
	info, err := os.Stat(m.HostPath)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	case info.Mode().IsRegular():
		v.addCopy(m, false)
	case info.IsDir() && isObject(m.HostPath, uid):
		v.addCopy(m, true)
	case info.IsDir():
		return v.addShare(m)
	default:
		return fmt.Errorf("is %s: accepted are files and directories: %w", kindOf(info.Mode()), errdefs.ErrInvalidArgument)
	}
	return nil
}

// objectPlugins are kubelet's volumes whose files are made of what is in the
// API. They are small, and guests that know no 9p need them.
var objectPlugins = []string{"kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~projected", "kubernetes.io~downward-api"}

// isObject tells whether a directory is such a volume of the pod or is in one.
// kubelet has them in pods/<uid>/volumes/<plugin>/<name> below its root
// directory, and for a subPath in pods/<uid>/volume-subpaths/<name>.
func isObject(hostPath, uid string) bool {
	podDir, inPod, ok := strings.Cut(hostPath, "/pods/"+uid+"/")
	if !ok {
		return false
	}
	where := strings.Split(inPod, "/")
	if len(where) < 3 {
		return false
	}
	if where[0] != "volume-subpaths" {
		return where[0] == "volumes" && slices.Contains(objectPlugins, where[1])
	}
	return slices.ContainsFunc(objectPlugins, func(plugin string) bool {
		_, err := os.Stat(filepath.Join(podDir, "pods", uid, "volumes", plugin, where[1]))
		return err == nil
	})
}

// addShare shares a directory.
func (v *volumes) addShare(m vmpod.Mount) error {
	if len(v.shares) == qemu.MaxShares {
		return fmt.Errorf("is a directory too many: a virtual machine has up to %d shared ones: %w", qemu.MaxShares, errdefs.ErrInvalidArgument)
	}
	s := share{path: m.HostPath, guest: m.ContainerPath}
	s.ID, s.Tag, s.ReadOnly = fmt.Sprintf("share%d", len(v.shares)), v.nextTag(m.ContainerPath), m.ReadOnly
	if err := v.mountAt(cloudinit.Mount{Tag: s.Tag, Path: m.ContainerPath, ReadOnly: m.ReadOnly}); err != nil {
		return err
	}
	v.shares = append(v.shares, s)
	return nil
}

// mountAt has the guest mount something, if its list of file systems can name
// the place: cloud-init does not escape what fstab(5) wants to be escaped.
func (v *volumes) mountAt(m cloudinit.Mount) error {
	if strings.ContainsAny(m.Path, " \t\\") {
		return fmt.Errorf("a volume's directory in the guest cannot have blanks and backslashes in its name: %w", errdefs.ErrInvalidArgument)
	}
	v.seed.Mounts = append(v.seed.Mounts, m)
	return nil
}

// hiddenDir is where in the guest files lie that cloud-init cannot write where
// they belong, since a volume is mounted there afterwards.
const hiddenDir = "/etc/cloud/mounts"

// copied is a file or directory that is copied into the guest.
type copied struct {
	// mount is where the manifest wants it; host is it on the host; guest is
	// where it is copied to.
	mount, host, guest string
	// object tells a volume from a single file.
	object bool
}

// addCopy has a file or an object's volume copied into the guest: to its place,
// or if that is in a volume, beside, and bound into the volume.
func (v *volumes) addCopy(m vmpod.Mount, object bool) {
	c := copied{mount: m.ContainerPath, host: m.HostPath, guest: m.ContainerPath, object: object}
	if v.inVolume(m.ContainerPath) {
		c.guest = path.Join(hiddenDir, fmt.Sprint(len(v.copies)), path.Base(m.ContainerPath))
		v.seed.Mounts = append(v.seed.Mounts, cloudinit.Mount{Bind: c.guest, Path: m.ContainerPath})
	}
	v.copies = append(v.copies, c)
}

// inVolume tells whether a path is on one of the volumes that are known so far.
func (v *volumes) inVolume(guest string) bool {
	return slices.ContainsFunc(v.seed.Mounts, func(m cloudinit.Mount) bool {
		return strings.HasPrefix(guest, strings.TrimSuffix(m.Path, "/")+"/")
	})
}

// kubeletsOwn are mounts that every container has, whether its author wants it or not.
var kubeletsOwn = []string{hostsFile, "/dev/termination-log", "/var/run/secrets/kubernetes.io/serviceaccount"}

// noteScript speaks of files that nobody will write: beside a script there is
// nothing else in user-data.
func (v *volumes) noteScript(spec *vmpod.VM) {
	if spec.CloudInit.UserDataScript == "" {
		return
	}
	for _, c := range v.copies {
		if !slices.Contains(kubeletsOwn, c.mount) {
			v.note("mount %s is not in the guest: it would have to be written by cloud-init, whose user-data is a script of the manifest's own", c.mount)
		}
	}
}
