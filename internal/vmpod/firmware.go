package vmpod

import "fmt"

const (
	tib = 1024 * 1024 * mib
	// biosCounts is how much of a disk the BIOS can count: 2^32 sectors of 512
	// bytes.
	biosCounts = 2 * tib
	// biosNeeds is room for what a boot loader reads, at the least.
	biosNeeds = tib / 16
)

// noteFirmware tells of a root disk from which QEMU's BIOS may not boot:
// SeaBIOS (1.16) has no size for scsi disks from 2 TiB on, and of virtio's it
// takes the number of sectors modulo 2^32, which is what boot loaders see of
// the disk. Kernels see all of it.
func (p *Pod) noteFirmware() {
	size := p.RootVolumeSize
	switch {
	case size < biosCounts:
	case p.DiskDriver == DiskSCSI:
		p.note(fmt.Sprintf("VirtletRootVolumeSize of %d bytes: from scsi disks of 2 TiB and more QEMU's BIOS may not boot; use VirtletDiskDriver: virtio", size))
	case size%biosCounts < biosNeeds:
		p.note(fmt.Sprintf("VirtletRootVolumeSize of %d bytes: QEMU's BIOS counts no more of a disk than what exceeds a multiple of 2 TiB, here %d bytes, and may not boot from it; "+
			"use a size that is no such multiple, such as 1 TiB more", size, size%biosCounts))
	}
}
