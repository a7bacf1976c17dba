package cloudinit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// MaxSerial is how many bytes of a disk's serial number a guest sees on every bus
// (virtio-blk's VIRTIO_BLK_ID_BYTES).
const MaxSerial = 20

var (
	safeSerial   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,19}$`)
	unsafeSerial = regexp.MustCompile(`[^A-Za-z0-9]+`)
)

// Serial is the serial number of the disk of that name: the name itself if it can
// be one, otherwise what can be recognised of it and a part of its SHA-256. It
// has up to MaxSerial letters, digits, dashes and underscores, none of which udev
// writes in another way.
func Serial(name string) string {
	if safeSerial.MatchString(name) {
		return name
	}
	const hashLen = 12
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:])[:hashLen]
	stem := strings.Trim(unsafeSerial.ReplaceAllString(name, "-"), "-")
	if stem == "" {
		return hash
	}
	return strings.TrimRight(stem[:min(len(stem), MaxSerial-hashLen-1)], "-") + "-" + hash
}

// Disk is how a guest recognises one of its disks.
type Disk struct {
	// Serial is its serial number, as Serial makes them.
	Serial string
	// PCI is the address of the disk, or of its SCSI controller, in Linux's
	// form: "0000:00:0a.0". It is the fallback.
	PCI string
	// SCSI tells a LUN of a virtio-scsi controller (bus 0, target 0) from a
	// virtio disk.
	SCSI bool
	LUN  int
	// Part is the partition that is meant, from 1; 0 is the whole disk.
	Part int
}

// Name is the name to use in a guest with udev, as in cloud-init's mounts: by the
// serial number, whose spelling has not changed since there are such names. Names
// by path did change, and cloud-init takes what follows a dot in a device's name
// for a partition.
func (d Disk) Name() string { return d.byID() + d.partSuffix() }

func (d Disk) byID() string {
	if d.SCSI {
		return "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_" + d.Serial
	}
	return "/dev/disk/by-id/virtio-" + d.Serial
}

func (d Disk) partSuffix() string {
	if d.Part == 0 {
		return ""
	}
	return fmt.Sprintf("-part%d", d.Part)
}

// Links are the names of the whole disk that the versions of udev give it, the
// surest first.
func (d Disk) Links() []string {
	path := "pci-" + d.PCI
	if d.SCSI {
		path += fmt.Sprintf("-scsi-0:0:0:%d", d.LUN)
	}
	return []string{d.byID(), "/dev/disk/by-path/" + path, "/dev/disk/by-path/virtio-" + path}
}

// SysGlob is a shell pattern for the disk's directory in sysfs, whose last element
// is the kernel's name of it, in guests without udev.
func (d Disk) SysGlob() string {
	glob := "/sys/bus/pci/devices/" + d.PCI + "/virtio*/"
	if d.SCSI {
		glob += fmt.Sprintf("host*/target*:0:0/*:0:0:%d/", d.LUN)
	}
	return glob + "block/*"
}
