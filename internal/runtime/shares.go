package runtime

import (
	"os"

	"github.com/qemulet/qemulet/disks"
	"github.com/qemulet/qemulet/qemu"
)

// share is a directory of the host that the guest mounts.
type share struct {
	qemu.Share
	// path is the directory, guest where it is mounted.
	path, guest string
}

// nextTag is the tag of one more share. It does not depend on later ones.
func (v *volumes) nextTag(guest string) string {
	var all []string
	for _, s := range v.shares {
		all = append(all, s.guest)
	}
	all = append(all, guest)
	return qemu.ShareTags(all)[len(all)-1]
}

// machineShares are the shares as QEMU is told of them.
func (v *volumes) machineShares() []qemu.Share {
	var all []qemu.Share
	for _, s := range v.shares {
		all = append(all, s.Share)
	}
	return all
}

// openShare opens the directory of the share of that id, as QEMU's user may do
// there what root of a container might. What this changes on the host is noted.
func (r *Runtime) openShare(vols *volumes, id string) (*os.File, error) {
	for _, s := range vols.shares {
		if s.ID != id {
			continue
		}
		o := disks.ShareOptions{UID: os.Geteuid(), GID: os.Getegid(), ReadOnly: s.ReadOnly, ChownAll: vols.chownShares}
		if c := r.Credential; c != nil {
			o.UID, o.GID = int(c.Uid), int(c.Gid)
		}
		opened, err := disks.OpenShare(s.path, o)
		if err != nil {
			return nil, err
		}
		if opened.Note != "" {
			vols.note("mount %s: %s", s.guest, opened.Note)
		}
		return opened.File, nil
	}
	return nil, errUnknownFile
}
