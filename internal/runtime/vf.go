package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/netns"
)

// vfioDir has a device for each IOMMU group that is bound to vfio-pci. QEMU
// knows it by this path alone.
const vfioDir = "/dev/vfio"

// grantVFs lets QEMU use the VFs among a pod's interfaces. What it grants goes
// with the group's device, when the VF is given back to its own driver.
func (r *Runtime) grantVFs(n *netns.Network, memory int64) error {
	if n == nil {
		return nil
	}
	for _, link := range n.Interfaces() {
		if link.VF == nil {
			continue
		}
		if err := errors.Join(checkLockable(memory), grantGroup(vfioDir, link.VF.Group, r.Credential)); err != nil {
			return fmt.Errorf("interface %s, PCI device %s: %w", link.Name, link.VF.PCI, err)
		}
	}
	return nil
}

// grantGroup gives the device of an IOMMU group to QEMU's user alone.
func grantGroup(dir string, group int, c *syscall.Credential) error {
	path := filepath.Join(dir, strconv.Itoa(group))
	if c == nil {
		_, err := os.Stat(path)
		return err
	}
	if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
		return fmt.Errorf("give the IOMMU group to QEMU's user: %w", err)
	}
	return os.Chmod(path, 0o600)
}

// checkLockable makes sure that QEMU, which inherits the limit, may lock the
// guest's memory: a device of the host's reads and writes it at any time.
func checkLockable(memory int64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Errorf("limit of locked memory: %w", err)
	}
	if limit.Cur < uint64(memory) {
		return fmt.Errorf("the guest's memory of %d bytes has to be locked, and the daemon's limit (RLIMIT_MEMLOCK) is %d; set LimitMEMLOCK=infinity in its systemd unit: %w",
			memory, limit.Cur, errdefs.ErrFailedPrecondition)
	}
	return nil
}
