#!/bin/bash
# build.sh PROGRAMS OUT: makes the Debian package of the programs in the directory PROGRAMS, in the directory OUT, and prints its
# file. It is for nodes without a cluster: in a cluster the DaemonSet installs, see docs/install.md.
set -euo pipefail
umask 022
here=$(dirname "$(readlink -f "$0")")
deploy=$here/.. top=$here/../..
[ $# -eq 2 ] || { echo "usage: build.sh PROGRAMS OUT" >&2; exit 2; }
programs=$(readlink -f "$1") out=$2

# The same commit gives the same package, byte for byte.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

version=$("$programs/qemulet" version)
version=${version#qemulet }
version=${version/-dev/\~dev} # a version to come sorts before it
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

file() { install -D -m "${3:-644}" "$1" "$root/$2"; } # file FROM TO [MODE]
text() { mkdir -p "$root/${1%/*}" && cat >"$root/$1"; }

for name in qemulet qemuletctl criproxy; do
  file "$programs/$name" usr/bin/$name 755
  "$programs/$name" man "$root/man" >/dev/null
done
ln -s qemuletctl "$root/usr/bin/kubectl-virt"
file "$programs/flexvolume_driver" usr/libexec/qemulet/flexvolume_driver 755

for page in "$root"/man/*; do
  gzip -9n "$page"
  file "$page.gz" "usr/share/man/man${page##*.}/${page##*/}.gz"
done
rm -r "$root/man"
ln -s qemuletctl.1.gz "$root/usr/share/man/man1/kubectl-virt.1.gz"

for name in qemulet qemuletctl; do
  "$programs/$name" completion bash | text usr/share/bash-completion/completions/$name
  "$programs/$name" completion zsh | text usr/share/zsh/vendor-completions/_$name
  "$programs/$name" completion fish | text usr/share/fish/vendor_completions.d/$name.fish
done

for unit in qemulet criproxy; do
  sed -e 's,/usr/local/bin/,/usr/bin/,' -e 's,: deploy/node-install.sh puts it in place.*,,' "$deploy/systemd/$unit.service" |
    text usr/lib/systemd/system/$unit.service
done
file "$deploy/systemd/qemulet-sysusers.conf" usr/lib/sysusers.d/qemulet.conf

file "$here/config.yaml" etc/qemulet/config.yaml
file "$here/10-qemulet.conflist" etc/qemulet/net.d/10-qemulet.conflist
for rules in "$deploy"/base/images/*.yaml; do
  file "$rules" "etc/qemulet/images/${rules##*/}"
done

doc=usr/share/doc/qemulet
text $doc/copyright <<'EOF'
qemulet is at https://github.com/qemulet/qemulet

Copyright 2026 the authors of qemulet
License: Apache License, Version 2.0; on Debian systems it is in /usr/share/common-licenses/Apache-2.0
EOF
printf 'qemulet (%s) unstable; urgency=medium\n\n  * See the history of the repository.\n\n -- %s  %s\n' \
  "$version" "qemulet <qemulet@users.noreply.github.com>" "$(date -Rud "@$SOURCE_DATE_EPOCH")" | gzip -9n | text $doc/changelog.gz
# As all programs of Go.
echo 'qemulet: statically-linked-binary *' | text usr/share/lintian/overrides/qemulet

mkdir "$root/DEBIAN"
(cd "$root" && find etc -type f | sort | sed 's,^,/,') >"$root/DEBIAN/conffiles"
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
for script in postinst prerm postrm; do
  install -m 755 "$here/$script" "$root/DEBIAN/$script"
done
size=$(du -ks --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" "$here/control" >"$root/DEBIAN/control"

mkdir -p "$out"
package=$out/qemulet_${version}_amd64.deb
dpkg-deb --root-owner-group -Zxz -z1 --build "$root" "$package" >/dev/null
echo "$package"
