package runtime

import "github.com/qemulet/qemulet/internal/vmpod"

// addMount adds what a mount is in a guest.
func (r *Runtime) addMount(_ *vm, m vmpod.Mount, vols *volumes) error {
	vols.note("mount %s is not carried into the guest by this version", m.ContainerPath)
	return nil
}
