#!/bin/bash
# build.sh GUEST...: builds guest disk images for the tests, and prints the path of each.
#
#   tiny     Debian's cloud kernel and static busybox; stands for CirrOS
#   tiny-9p  the same on Debian's generic kernel, which has 9p (the cloud kernel has not), and with qemu-guest-agent; boots slower
#   debian   a Debian 12 cloud image: systemd, cloud-init, openssh-server, qemu-guest-agent
#   node     a Debian 12 that qemulet can be installed on: systemd, QEMU, CNI plugins, qemu-guest-agent
#
# An image is built once for each state of its recipe and kept in ${QEMULET_CACHE:-${XDG_CACHE_HOME:-~/.cache}/qemulet}.
# A build happens in a temporary folder and appears under its name only when complete; two builds of the same image wait
# for each other. `build.sh --path GUEST` prints the path without building, whether or not the file is there.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# recipe GUEST prints the files that make up the recipe, the first of them being the program that builds.
recipe() {
  case $1 in
    tiny | tiny-9p) printf '%s\n' "$guests_dir/tiny/build.sh" "$guests_dir/tiny" "$guests_dir/disk.sh" ;;
    debian | node) printf '%s\n' "$guests_dir/debian/build.sh" "$guests_dir/debian" "$guests_dir/disk.sh" ;;
    *) die "unknown guest \"$1\": accepted are tiny, tiny-9p, debian, node" ;;
  esac
}

path_of() {
  local files
  mapfile -t files < <(recipe "$1")
  [ "${#files[@]}" -gt 0 ] || exit 1
  printf '%s/%s-%s.qcow2\n' "$(cache_dir)" "$1" "$(recipe_key "${files[@]:1}")"
}

build() {
  local guest=$1 out tmp start=$SECONDS files
  out=$(path_of "$guest")
  if [ ! -s "$out" ]; then
    exec 9>"$out.lock"
    flock 9
    if [ ! -s "$out" ]; then
      [ "$(id -u)" = 0 ] || die "building the $guest guest needs root (apt and file ownership)"
      mapfile -t files < <(recipe "$guest")
      say "building $guest"
      tmp=$(mktemp -d "$(cache_dir)/build-$guest.XXXXXX")
      trap 'rm -rf "$tmp"' EXIT
      "${files[0]}" "$guest" "$tmp" "$tmp/disk.qcow2" >&2
      chmod 0644 "$tmp/disk.qcow2"
      mv "$tmp/disk.qcow2" "$out"
      rm -rf "$tmp"
      trap - EXIT
      # Images of earlier recipes are of no use to this clone; others may still use them, so only old ones go.
      find "$(cache_dir)" -maxdepth 1 -name "$guest-????????????????.qcow2*" ! -path "$out*" -mtime +14 -delete
      say "built $guest in $((SECONDS - start)) s: $out ($(du -h "$out" | cut -f1))"
    fi
    exec 9>&-
  fi
  touch -c "$out"
  printf '%s\n' "$out"
}

if [ "${1:-}" = --path ]; then
  path_of "${2:?guest}"
  exit
fi
[ $# -gt 0 ] || die "usage: build.sh [--path] tiny|tiny-9p|debian|node ..."
for guest; do build "$guest"; done
