# shellcheck shell=bash
# Shared by the guest recipes: where built images are kept, and how the packages they are made of are fetched.

guests_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'guests: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# cache_dir prints the folder that holds finished images. It lies outside the clone, so that the next clone finds them.
cache_dir() {
  local base=${QEMULET_CACHE:-}
  if [ -z "$base" ]; then
    if [ -n "${XDG_CACHE_HOME:-}" ]; then base=$XDG_CACHE_HOME/qemulet
    else base=${HOME:-/root}/.cache/qemulet; fi
  fi
  mkdir -p "$base" && printf '%s\n' "$base"
}

# recipe_key FILE_OR_DIR... prints a key that changes with the name, the mode bit that matters (x) and the content of any
# file of the recipe.
recipe_key() {
  local f
  find "$@" -type f -print0 | LC_ALL=C sort -z | while IFS= read -r -d '' f; do
    printf '%s %s ' "${f#"$guests_dir"/}" "$([ -x "$f" ] && echo x || echo -)"
    sha256sum <"$f"
  done | sha256sum | cut -c1-16
}

# fetch_deb DIR PACKAGE... downloads packages (not their dependencies) into DIR. A stale package list is refreshed once.
fetch_deb() {
  local dir=$1
  shift
  (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$@" >&2) && return
  say "package list is missing or stale: apt-get update"
  apt-get -qq update >&2
  (cd "$dir" && apt-get -qq -o APT::Sandbox::User=root download "$@" >&2)
}

# kernel_package META prints the package that a kernel meta package (linux-image-amd64 ...) stands for today.
kernel_package() {
  local pkg
  pkg=$(apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p')
  if [ -z "$pkg" ]; then
    say "no package list for $1: apt-get update"
    apt-get -qq update >&2
    pkg=$(apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p')
  fi
  [ -n "$pkg" ] || die "package $1 is not known to apt; is a Debian mirror configured?"
  printf '%s\n' "$pkg"
}
