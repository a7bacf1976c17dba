# shellcheck shell=bash
# Bootable BIOS disks without loop device, mount or boot loader installation: boot.img reads core.img from the sectors
# behind it, which is where both their built-in block lists point, so two plain copies make a disk boot.

grub_lib=/usr/lib/grub/i386-pc

# grub_install DISK CONFIG MODULE... writes GRUB with CONFIG built in to the first 1 MiB of DISK (a raw file), around
# the partition table.
grub_install() {
  local disk=$1 config=$2 core
  shift 2
  core=$(mktemp "$disk.core.XXXXXX")
  grub-mkimage -O i386-pc -d "$grub_lib" -p '(hd0)/' -c "$config" -o "$core" biosdisk "$@"
  if [ "$(stat -c %s "$core")" -gt $((1000 * 1024)) ]; then
    echo "GRUB's core image does not fit in front of the first partition" >&2
    return 1
  fi
  dd if="$grub_lib/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
  # The signature that makes a BIOS take the sector for a boot sector.
  printf '\125\252' | dd of="$disk" bs=1 seek=510 conv=notrunc status=none
  dd if="$core" of="$disk" bs=512 seek=1 conv=notrunc status=none
  rm -f "$core"
}

# sectors FILE prints how many 512-byte sectors FILE fills.
sectors() { echo $((($(stat -c %s "$1") + 511) / 512)); }
