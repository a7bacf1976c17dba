# Functions of the tiny guest's scripts.

# say WHAT TEXT... reports one line on the console.
say() { echo "@@GUEST $*" >/dev/console; }

# load_modules loads drivers for the devices that are there: buses first, then what they brought to light.
load_modules() {
  cat /sys/bus/pci/devices/*/modalias /sys/bus/acpi/devices/*/modalias 2>/dev/null | xargs -r modprobe -qa 2>/dev/null
  # With an asynchronous scan the seed's CD-ROM could appear after it was looked for.
  modprobe scsi_mod scan=sync 2>/dev/null
  cat /sys/bus/virtio/devices/*/modalias 2>/dev/null | xargs -r modprobe -qa 2>/dev/null
  if [ -n "$(ls /sys/class/scsi_host 2>/dev/null)" ]; then
    modprobe -qa sd_mod sr_mod
  fi
  modprobe -q evdev
}

# count_boot adds one to the number kept on the boot disk, and leaves it in $boots: it tells a disk that was kept from
# one that was made anew.
count_boot() {
  boots=0
  local d
  for d in /dev/vda /dev/sda; do
    [ -b $d ] && [ "$(dd if=$d bs=512 skip=2046 count=1 2>/dev/null | head -n 1)" = "qemulet tiny" ] || continue
    boots=$(dd if=$d bs=512 skip=2047 count=1 2>/dev/null | tr -d '\0')
    boots=$((${boots:-0} + 1))
    # sync(1) would write it, but not tell the disk to keep it: there is no file system here.
    echo $boots | dd of=$d bs=512 seek=2047 conv=sync,fsync 2>/dev/null
    return
  done
}

# start_nic NAME asks for addresses, now and whenever the lease needs it.
start_nic() {
  local n=$1
  [ -e /run/udhcpc.$n.pid ] && return
  say nic "$n mac=$(cat /sys/class/net/$n/address) mtu=$(cat /sys/class/net/$n/mtu) driver=$(basename "$(readlink /sys/class/net/$n/device/driver)")"
  ip link set $n up
  # -t/-T/-A: keep asking, once a second; -O: options that are not asked for by default.
  udhcpc -f -i $n -p /run/udhcpc.$n.pid -s /etc/udhcpc -t 10 -T 1 -A 1 -O mtu -O search -O staticroutes >/dev/null 2>&1 &
}

# report_disk NAME
report_disk() {
  local d=/sys/block/$1 serial
  serial=$(cat $d/serial 2>/dev/null || tail -c +5 $d/device/vpd_pg80 2>/dev/null)
  say disk "$1 bytes=$(($(cat $d/size) * 512)) ro=$(cat $d/ro) serial=$serial at=$(readlink -f $d/device | sed 's|^/sys/devices/||')"
}

# mount_9p mounts every 9p share under its tag.
mount_9p() {
  local t tag
  for t in /sys/bus/virtio/drivers/9pnet_virtio/virtio*/mount_tag; do
    [ -e "$t" ] || continue
    tag=$(tr -d '\0' <$t)
    mkdir -p /mnt/$tag
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 $tag /mnt/$tag && say 9p "tag=$tag dir=/mnt/$tag"
  done
}

# start_agent NAME runs the guest agent, in guests that have it, if that is the name of its port.
start_agent() {
  [ -x /bin/qemu-ga ] && [ "$(cat "$1")" = org.qemu.guest_agent.0 ] || return
  qemu-ga -p "/dev/$(basename "$(dirname "$1")")" -t /run -f /run/qemu-ga.pid >/dev/null 2>&1 &
}

# volume_label DEVICE prints the label of an ISO 9660 or FAT volume, in lower case.
volume_label() {
  local l
  l=$(dd if=$1 bs=1 skip=32808 count=32 2>/dev/null | tr -d '\0')
  [ "$(dd if=$1 bs=1 skip=32769 count=5 2>/dev/null)" = CD001 ] || l=$(dd if=$1 bs=1 skip=43 count=11 2>/dev/null | tr -d '\0')
  echo $l | tr 'A-Z' 'a-z'
}
