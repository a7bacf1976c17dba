#!/bin/bash
# build.sh tiny|tiny-9p TMP OUT.qcow2: kernel and initramfs lie in raw sector ranges of the disk; GRUB reads them by its
# block-list syntax, so that there is no file system to make, to read slowly, or to go wrong.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
. "$guests_dir/disk.sh"
guest=$1 tmp=$2 out=$3

# What the guest loads when it finds the hardware; dependencies come along.
modules="virtio_pci virtio_blk virtio_net virtio_scsi virtio_balloon virtio_console virtio-rng virtio_mem virtio_input
  vmw_vsock_virtio_transport virtiofs sd_mod sr_mod isofs vfat nls_cp437 nls_ascii nls_utf8 ata_piix button evdev
  pvpanic-mmio pvpanic-pci ext4 crc32c_generic"
meta=linux-image-cloud-amd64 agent=()
if [ "$guest" = tiny-9p ]; then
  meta=linux-image-amd64
  modules="$modules 9p 9pnet_virtio ahci e1000 e1000e"
  agent=(qemu-guest-agent libglib2.0-0 libnuma1 libudev1 liburing2 libpcre2-8-0 libc6)
fi

# Fast under TCG: no address randomisation, no mitigations, no patching of lock prefixes, no self tests.
# no_timer_check: the kernel takes the timer for broken when it gets no processor time at that moment, as beside many others.
cmdline="console=ttyS0 nokaslr mitigations=off noreplace-smp cryptomgr.notests i8042.noaux random.trust_cpu=on no_timer_check
  rcupdate.rcu_expedited=1 printk.time=1 loglevel=7"

cd "$tmp"
mkdir debs unpacked root
fetch_deb debs busybox-static "${agent[@]}" "$(kernel_package "$meta")"
for deb in debs/*.deb; do dpkg-deb -x "$deb" unpacked; done
kver=$(basename unpacked/lib/modules/*)

cp -r "$guests_dir/tiny/root/." root/
install -D unpacked/bin/busybox root/bin/busybox
for applet in $(root/bin/busybox --list); do
  [ -e "root/bin/$applet" ] || ln -s busybox "root/bin/$applet"
done
# The kernel calls /sbin/modprobe; scripts may say /usr/bin/env.
ln -s bin root/sbin
ln -s . root/usr
mkdir -p root/{dev,proc,sys,run,tmp,mnt,seed,root,lib/modules}

# copy_agent copies the guest agent and the libraries that it is linked with.
copy_agent() {
  local lib
  install -D unpacked/usr/sbin/qemu-ga root/bin/qemu-ga
  for lib in libudev.so.1 libnuma.so.1 liburing.so.2 libglib-2.0.so.0 libgmodule-2.0.so.0 libpcre2-8.so.0 libm.so.6 libc.so.6; do
    install -D "$(find unpacked -name "$lib" -print -quit)" "root/lib/x86_64-linux-gnu/$lib"
  done
  install -D "$(find unpacked/lib/x86_64-linux-gnu -name ld-linux-x86-64.so.2)" root/lib64/ld-linux-x86-64.so.2
}
[ "${#agent[@]}" = 0 ] || copy_agent

# copy_module NAME copies a module and what it depends on.
copy_module() {
  local file dep
  file=$(find "unpacked/lib/modules/$kver" -name "${1//[-_]/[-_]}.ko" -print -quit)
  [ -n "$file" ] || return 0 # built in, or absent from this kernel
  [ ! -e "root/lib/modules/$kver/$(basename "$file")" ] || return 0
  install -m 0644 -D "$file" "root/lib/modules/$kver/$(basename "$file")"
  for dep in $(grep -az '^depends=' "$file" | tr -d '\0' | sed 's/^depends=//' | tr ',' ' '); do
    copy_module "$dep"
  done
}
for m in $modules; do copy_module "$m"; done
busybox depmod -b "$PWD/root" "$kver"

(cd root && find . | LC_ALL=C sort | busybox cpio -o -H newc -R 0:0 2>/dev/null) | gzip -9n >initrd
cp "unpacked/boot/vmlinuz-$kver" kernel

kernel_at=2048 kernel_len=$(sectors kernel)
initrd_at=$((kernel_at + kernel_len)) initrd_len=$(sectors initrd)
size=$((((initrd_at + initrd_len) / 2048 + 1) * 1048576))
# linux16 and initrd16 because GRUB's newer loader copies byte by byte, which takes seconds under TCG.
cat >grub.cfg <<EOF
linux16 (hd0)$kernel_at+$kernel_len $(echo $cmdline)
initrd16 (hd0)$initrd_at+$initrd_len
boot
EOF
truncate -s "$size" raw
grub_install raw grub.cfg linux16
# The two sectors below 1 MiB: a mark by which the guest knows its disk, and the count of boots from it.
printf 'qemulet tiny\n' | dd of=raw bs=512 seek=2046 conv=notrunc status=none
dd if=kernel of=raw bs=512 seek="$kernel_at" conv=notrunc status=none
dd if=initrd of=raw bs=512 seek="$initrd_at" conv=notrunc status=none
qemu-img convert -f raw -O qcow2 raw "$out"
