#!/bin/bash
# build.sh debian|node TMP OUT.qcow2: Debian 12 as its cloud images are (cloud kernel, systemd, netplan over networkd,
# cloud-init, OpenSSH, the guest agent), installed from Debian's packages into a folder, and the folder made a disk. As a node
# it has what the package of qemulet depends on instead of what cloud images have.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$guests_dir/disk.sh"
guest=$1 tmp=$2 out=$3

packages=linux-image-cloud-amd64,systemd-sysv,udev,dbus,initramfs-tools,lz4,e2fsprogs,fdisk,qemu-guest-agent,iproute2,login,passwd,procps
case $guest in
  debian)
    size_mib=1536
    packages=$packages,cloud-init,cloud-guest-utils,netplan.io,openssh-server,sudo,iputils-ping,isc-dhcp-client ;;
  node)
    size_mib=3072
    packages=$packages,qemu-system-x86,qemu-utils,containernetworking-plugins,iptables,ca-certificates,busybox-static ;;
esac

# The machine's own mirror, when it is a machine of the same release.
sources=()
if (. /etc/os-release && [ "${VERSION_CODENAME:-}" = bookworm ]); then
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
    if [ -s "$f" ] && grep -q debian.org "$f"; then sources+=("$f"); fi
  done
fi

cd "$tmp"
mkdir root
mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" \
  --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools"' \
  --essential-hook="cp '$guests_dir/debian/initramfs.conf' '$guests_dir/debian/modules' \"\$1/etc/initramfs-tools/\"" \
  --dpkgopt=force-confold \
  bookworm root "${sources[@]}"

cp -r "$guests_dir/debian/root/." root/
chroot root /bin/sh -eu <<'EOF'
echo root:guest | chpasswd
systemctl -q enable serial-getty@ttyS0.service guest-ready.service systemd-networkd.service
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-timesyncd.service getty@tty1.service
rm -f /etc/ssh/ssh_host_* /etc/hostname
: >/etc/machine-id
EOF
if [ "$guest" = node ]; then
  chroot root systemctl -q add-wants multi-user.target guest-ready.service
  echo node >root/etc/hostname
  rm -r root/etc/cloud
fi
rm -rf root/var/cache/apt/* root/var/lib/apt/lists/* root/var/log/*.log root/tmp/* root/usr/share/mime

cp root/boot/vmlinuz-* vmlinuz
truncate -s "${size_mib}M" raw
echo 'start=2048, type=83, bootable' | sfdisk -q raw
# GRUB 2.06 does not read file systems with these two newer features.
mke2fs -q -t ext4 -L root -m 0 -O ^metadata_csum_seed,^orphan_file -E offset=1048576 -d root raw "$((size_mib - 1))M"
cat >grub.cfg <<EOF
set root=(hd0,msdos1)
linux16 /boot/$(basename root/boot/vmlinuz-*) root=LABEL=root ro console=ttyS0 nokaslr mitigations=off noreplace-smp cryptomgr.notests quiet systemd.show_status=1
initrd16 /boot/$(basename root/boot/initrd.img-*)
boot
EOF
grub_install raw grub.cfg part_msdos ext2 linux16
qemu-img convert -c -m 4 -W -f raw -O qcow2 raw "$out"
