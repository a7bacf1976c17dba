#!/bin/bash
# run.sh MANIFEST [ARGS...]: `qemulet run` in a network namespace of its own, with the test guests as images: virtlet.cloud/cirros
# and virtlet.cloud/tiny are the tiny guest, virtlet.cloud/debian is the Debian guest if it was built. They are served over
# http on the namespace's loopback for as long as the command runs.
#
# What runs behind a detached machine stays in the namespace; without one, the namespace goes at the end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
node=${QEMULET_NODE:-qemulet-node}
pod=${1:?manifest}
shift

[ -f "$pod" ] || { echo "run: no such manifest: $pod" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "run: virtual machines need root here (network namespaces, taps, cgroups); try: sudo make run" >&2; exit 1; }

web=$(mktemp -d /tmp/qemulet-run.XXXXXX)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$web"
  if [ -e "/run/netns/$node" ] && [ -z "$(ip netns pids "$node")" ]; then ip netns del "$node"; fi
}
trap cleanup EXIT
# The console's Ctrl-C is for qemulet, which ends the machine; this script waits for that.
trap : INT TERM

for guest in tiny debian; do
  image=$("$top/e2e/guests/build.sh" --path "$guest")
  if [ -s "$image" ]; then ln -s "$image" "$web/$guest.qcow2"; fi
done
inside() { "$here/in-node.sh" "$node" "$@"; }
inside true
"$here/in-node.sh" "$node" busybox httpd -f -p 127.0.0.1:80 -h "$web" </dev/null >/dev/null 2>&1 &
server=$!
inside bash -c 'for i in {1..100}; do (: </dev/tcp/127.0.0.1/80) 2>/dev/null && exit; sleep 0.05; done; exit 1' ||
  { echo "run: the web server for the images does not answer" >&2; exit 1; }

# These are for the scripts; the daemon would take them for misspelt settings.
unset QEMULET_NODE QEMULET_CACHE

# The place to adjust when the settings of `qemulet run` change.
status=0
inside "${E2E_BIN:-$top/bin}/qemulet" run \
  --image-translation-dir "$here/run-images" --download-protocol http "$pod" "$@" || status=$?
exit $status
