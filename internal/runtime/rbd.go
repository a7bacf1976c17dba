package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/internal/flexvolume"
	"github.com/qemulet/qemulet/qemu"
)

// checkRBD refuses a pod with disks in a Ceph cluster early, if this node's
// QEMU cannot connect to one.
func (r *Runtime) checkRBD(ctx context.Context, vols *volumes) error {
	for _, d := range vols.disks {
		if d.RBD == nil {
			continue
		}
		state, err := r.Hypervisor.Ready(ctx)
		if err == nil {
			err = qemu.ProbeRBD(ctx, state.Capabilities.Binary)
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %w", d.guest, err, errdefs.ErrFailedPrecondition)
		}
		return nil
	}
	return nil
}

// openKey puts a key where QEMU's user, and of users only that one, can read
// it: into memory.
func (r *Runtime) openKey(key flexvolume.Secret) (*os.File, error) {
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "key")
	if err = f.Chmod(0o400); err == nil && r.Credential != nil {
		err = f.Chown(int(r.Credential.Uid), int(r.Credential.Gid))
	}
	if err == nil {
		_, err = f.WriteString(string(key))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
