#!/bin/sh
qemulet_disk() {
	for qemulet_try in 1 2 3 4 5 6 7 8 9 10; do
		for qemulet_b in /sys/block/*; do
			qemulet_s=
			if [ -r "$qemulet_b/serial" ]; then
				qemulet_s=$(cat "$qemulet_b/serial" 2>/dev/null) || :
			elif [ -r "$qemulet_b/device/vpd_pg80" ]; then
				qemulet_s=$(dd if="$qemulet_b/device/vpd_pg80" bs=1 skip=4 2>/dev/null | tr -d '\000 ') || :
			fi
			if [ "$qemulet_s" = "$1" ]; then
				echo "/dev/${qemulet_b##*/}"
				return 0
			fi
		done
		for qemulet_l in $2; do
			if [ -b "$qemulet_l" ]; then
				readlink -f "$qemulet_l"
				return 0
			fi
		done
		for qemulet_b in $3; do
			if [ -e "$qemulet_b" ]; then
				echo "/dev/${qemulet_b##*/}"
				return 0
			fi
		done
		[ "$qemulet_try" = 10 ] || sleep 1
	done
	echo "no disk has the serial number $1" >&2
	return 1
}
qemulet_link() {
	qemulet_to=$1
	shift
	qemulet_dev=$(qemulet_disk "$@") || return 0
	mkdir -p "${qemulet_to%/*}/" && ln -fns "$qemulet_dev" "$qemulet_to" || echo "cannot link $qemulet_to" >&2
}
qemulet_link '/dev/testpvc' 'pvc' '/dev/disk/by-id/virtio-pvc /dev/disk/by-path/pci-0000:00:0b.0 /dev/disk/by-path/virtio-pci-0000:00:0b.0' '/sys/bus/pci/devices/0000:00:0b.0/virtio*/block/*'
qemulet_link '/dev/a/it'\''s' 'sub' '/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sub /dev/disk/by-path/pci-0000:00:02.3-scsi-0:0:0:2 /dev/disk/by-path/virtio-pci-0000:00:02.3-scsi-0:0:0:2' '/sys/bus/pci/devices/0000:00:02.3/virtio*/host*/target*:0:0/*:0:0:2/block/*'
