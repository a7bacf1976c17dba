package cloudinit

import (
	"fmt"
	"path"
	"strings"
)

// The scripts are for any POSIX shell, busybox's among them, with few programs and
// without udev. They may be put into another script, whatever that has set: names
// have a prefix, nothing exits, and no command's failure goes unhandled.

// findDisk prints the device of the disk with the serial number $1, which may take
// a moment to appear: by what the kernel says of it, by one of udev's links in $2,
// or by its place in sysfs, $3. For a SCSI disk the kernel has the page of its
// "vital product data" with the number after four bytes of header (SPC-4, 7.8.14).
const findDisk = `qemulet_disk() {
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
`

// linkDisk makes the link $1 to a disk; the rest is findDisk's.
const linkDisk = `qemulet_link() {
	qemulet_to=$1
	shift
	qemulet_dev=$(qemulet_disk "$@") || return 0
	mkdir -p "${qemulet_to%/*}/" && ln -fns "$qemulet_dev" "$qemulet_to" || echo "cannot link $qemulet_to" >&2
}
`

// mountDisk mounts partition $3 of a disk on $1 with the options $2; the rest is
// findDisk's. A name that ends in a digit has a p before a partition's number.
const mountDisk = `qemulet_mount_disk() {
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
`

// mountAt mounts on $1, unless something is mounted there; the rest is mount's.
// Not every guest has mountpoint(1).
const mountAt = `qemulet_mount() {
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
`

// bindAt binds $1 to $2, unless it is already: then they are one file.
const bindAt = `qemulet_bind() {
	if [ ! -e "$1" ] || [ "$1" -ef "$2" ]; then
		return 0
	fi
	if [ -d "$1" ]; then
		mkdir -p "$2"
	elif mkdir -p "${2%/*}" && [ ! -e "$2" ]; then
		: >"$2"
	fi || return 0
	mount -o bind "$1" "$2" || echo "cannot mount $2" >&2
}
`

// SymlinkScript links the devices to their paths; empty if there are none.
func (v Volumes) SymlinkScript() string {
	if len(v.Devices) == 0 {
		return ""
	}
	text := "#!/bin/sh\n" + findDisk + linkDisk
	for _, d := range v.Devices {
		text += command("qemulet_link", append([]string{path.Clean(d.Path)}, d.Disk.lookup()...)...)
	}
	return text
}

// MountScript mounts what is not mounted yet; empty if there is nothing to mount.
func (v Volumes) MountScript() string {
	if len(v.Mounts) == 0 {
		return ""
	}
	text, mounts := "#!/bin/sh\n"+mountAt, ""
	disks, binds := false, false
	for _, m := range v.Mounts {
		mounts += m.command()
		binds = binds || m.Bind != ""
		disks = disks || m.Tag == "" && m.Bind == ""
	}
	if disks {
		text += findDisk + mountDisk
	}
	if binds {
		text += bindAt
	}
	return text + mounts
}

func (m Mount) command() string {
	switch {
	case m.Tag != "":
		return command("qemulet_mount", m.Path, "-t", shareType, "-o", m.withAccess(shareOptions), m.Tag)
	case m.Bind != "":
		return command("qemulet_bind", m.Bind, m.Path)
	}
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	return command("qemulet_mount_disk", append([]string{m.Path, access, fmt.Sprint(m.Disk.Part)}, m.Disk.lookup()...)...)
}

// lookup are the arguments of findDisk.
func (d Disk) lookup() []string {
	return []string{d.Serial, strings.Join(d.Links(), " "), d.SysGlob()}
}

// command is a command with quoted arguments. Nothing in single quotes means
// anything to a shell.
func command(name string, args ...string) string {
	for _, a := range args {
		name += " '" + strings.ReplaceAll(a, "'", `'\''`) + "'"
	}
	return name + "\n"
}
