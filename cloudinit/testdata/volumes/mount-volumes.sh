#!/bin/sh
qemulet_mount() {
	qemulet_dir=$1
	shift
	mkdir -p "$qemulet_dir" || return 0
	qemulet_real=$(readlink -f "$qemulet_dir") || qemulet_real=$qemulet_dir
	while read -r qemulet_x qemulet_at qemulet_x; do
		if [ "$(printf '%b.' "$qemulet_at")" = "$qemulet_real." ]; then
			return 0
		fi
	done </proc/mounts
	mount "$@" "$qemulet_dir" || echo "cannot mount $qemulet_dir" >&2
}
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
qemulet_mount_disk() {
	qemulet_dir=$1 qemulet_opt=$2 qemulet_part=$3
	shift 3
	qemulet_dev=$(qemulet_disk "$@") || return 0
	case "$qemulet_part$qemulet_dev" in
	0*) ;;
	*[0-9]) qemulet_dev=${qemulet_dev}p$qemulet_part ;;
	*) qemulet_dev=$qemulet_dev$qemulet_part ;;
	esac
	qemulet_mount "$qemulet_dir" -o "$qemulet_opt" "$qemulet_dev"
}
qemulet_mount_disk '/mnt/vol' 'rw' '1' 'vol' '/dev/disk/by-id/virtio-vol /dev/disk/by-path/pci-0000:00:0c.0 /dev/disk/by-path/virtio-pci-0000:00:0c.0' '/sys/bus/pci/devices/0000:00:0c.0/virtio*/block/*'
qemulet_mount_disk '/mnt/whole disk' 'ro' '0' 'whole' '/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_whole /dev/disk/by-path/pci-0000:00:02.3-scsi-0:0:0:3 /dev/disk/by-path/virtio-pci-0000:00:02.3-scsi-0:0:0:3' '/sys/bus/pci/devices/0000:00:02.3/virtio*/host*/target*:0:0/*:0:0:3/block/*'
qemulet_mount '/data' '-t' '9p' '-o' 'trans=virtio,msize=262144' 'data'
qemulet_mount '/etc/conf' '-t' '9p' '-o' 'trans=virtio,msize=262144,ro' 'conf-12345678'
