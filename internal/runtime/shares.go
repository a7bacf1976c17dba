package runtime

import "github.com/qemulet/qemulet/qemu"

// share is a directory of the host that the guest mounts.
type share struct {
	qemu.Share
	// path is the directory.
	path string
}

// machineShares are the shares as QEMU is told of them.
func (v *volumes) machineShares() []qemu.Share {
	var all []qemu.Share
	for _, s := range v.shares {
		all = append(all, s.Share)
	}
	return all
}
