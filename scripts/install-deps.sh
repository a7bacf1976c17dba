#!/bin/bash
# install-deps.sh [--check]: installs the Debian packages that qemulet, its guests and its tests need and this machine
# lacks, and creates the system user that virtual machines run as. Does nothing, quickly, when nothing is missing.
# With --check it only says what is missing, and fails if anything is.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
vm_user=qemulet

# What must be there | the package that brings it | what for. A name without a slash is looked up in PATH; a path may have wildcards.
needs='
qemu-system-x86_64             | qemu-system-x86            | runs the virtual machines
/usr/share/seabios/bios.bin    | seabios                    | firmware of the virtual machines
/usr/lib/*/qemu/block-rbd.so   | qemu-block-extra           | has QEMU connect to Ceph clusters
qemu-img                       | qemu-utils                 | makes and checks disk images in tests and benchmarks
/usr/lib/cni/bridge            | containernetworking-plugins | connects pods to a network (CNI)
ip                             | iproute2                   | network namespaces of the tests and of "make run"
iptables                       | iptables                   | used by CNI plugins for masquerading and host ports
runc                           | runc                       | runs the ordinary containers of "make e2e"
socat                          | socat                      | QMP client that was not written here, for tests
nsenter                        | util-linux                 | enters those namespaces
flock                          | util-linux                 | keeps two builds of one guest apart
useradd                        | passwd                     | creates the user that virtual machines run as
busybox                        | busybox-static             | serves guest images to "make run", builds the tiny guest, runs scripts of guests in tests
mmdebstrap                     | mmdebstrap                 | installs Debian into the Debian guest
grub-mkimage                   | grub-common                | makes guests bootable
/usr/lib/grub/i386-pc/boot.img | grub-pc-bin                | makes guests bootable
sfdisk                         | fdisk                      | partitions the Debian guest, checks volumes in tests
mke2fs                         | e2fsprogs                  | makes ephemeral volumes, and the file system of the Debian guest
/etc/ssl/certs/ca-certificates.crt | ca-certificates      | lets go download modules over https
/boot/vmlinuz-*                | linux-image-cloud-amd64    | kernel of the machine that writes files into root disks
mkfs.xfs                       | xfsprogs                   | makes root disks with xfs in tests
xz                             | xz-utils                   | compresses images in tests
zstd                           | zstd                       | compresses images in tests
curl                           | curl                       | what pulls of images are measured against
ssh                            | openssh-client             | logs in to guests, by "qemuletctl ssh" in tests
xorriso                        | xorriso                    | reads back cloud-init seeds in tests
isoinfo                        | genisoimage                | reads back cloud-init seeds in tests
blkid                          | util-linux                 | reads back cloud-init seeds in tests
'

missing() {
  local thing package why
  while IFS='|' read -r thing package why; do
    thing=${thing// /} package=${package// /}
    [ -n "$thing" ] || continue
    case $thing in
      /*) compgen -G "$thing" >/dev/null ;;
      *) type -P "$thing" >/dev/null ;;
    esac || printf '%s|%s\n' "$package" "${why# }"
  done <<<"$needs"
}

user_missing() { ! grep -q "^$vm_user:" /etc/passwd; }
kvm_missing() { grep -q '^kvm:' /etc/group && ! grep -q "^kvm:.*[:,]$vm_user\(,\|$\)" /etc/group; }

check_go() {
  local have want
  want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' "$(dirname "$0")/../go.mod")
  if ! type -P go >/dev/null; then
    echo "install-deps: the Go compiler is missing: install Go $want or later (https://go.dev/dl/) and have it in PATH" >&2
    return 1
  fi
}

lacking=$(missing)
if [ -z "$lacking" ] && ! user_missing && ! kvm_missing; then
  check_go
  exit
fi

if [ -n "$lacking" ]; then
  echo "install-deps: this machine lacks:"
  sort -u <<<"$lacking" | awk -F'|' '
    { why[$1] = why[$1] (why[$1] ? ", " : "") $2 }
    END { for (p in why) printf "  %-28s %s\n", p, why[p] }' | sort
fi
if [ "${1:-}" = --check ]; then
  user_missing && echo "  system user $vm_user              runs the virtual machines"
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "install-deps: installing packages and creating the user $vm_user needs root: run \"sudo $0\" once" >&2
  exit 1
fi
if [ -n "$lacking" ]; then
  if ! type -P apt-get >/dev/null; then
    echo "install-deps: no apt-get here; on a system other than Debian, install the counterparts of the packages above" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # Nobody boots this machine with the kernel: it needs no initial RAM disk.
  [ -e /boot/grub ] || export INITRD=No
  mapfile -t packages < <(cut -d'|' -f1 <<<"$lacking" | sort -u)
  echo "install-deps: apt-get update; apt-get install ${packages[*]}"
  apt-get -qq update
  apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${packages[@]}" >/dev/null
  lacking=$(missing)
  if [ -n "$lacking" ]; then
    echo "install-deps: still missing after the installation: $(cut -d'|' -f1 <<<"$lacking" | sort -u | tr '\n' ' ')" >&2
    exit 1
  fi
fi
if user_missing; then
  echo "install-deps: creating the system user $vm_user, which virtual machines run as"
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$vm_user"
fi
if kvm_missing; then
  echo "install-deps: adding $vm_user to the group kvm, so that its machines may use /dev/kvm"
  usermod -aG kvm "$vm_user"
fi
check_go
