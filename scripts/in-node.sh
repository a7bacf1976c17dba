#!/bin/bash
# in-node.sh NAME COMMAND...: runs COMMAND in the network namespace NAME, which is made when it is not there. All of
# qemulet's links then appear in that namespace, and the machine's own network stays as it is.
#
# nsenter and not "ip netns exec": the latter mounts a new /sys, and with that hides the cgroups.
set -euo pipefail
name=${1:?name of the network namespace}
shift
[ "$(id -u)" = 0 ] || { echo "in-node: network namespaces need root" >&2; exit 1; }
if [ ! -e "/run/netns/$name" ]; then
  # Someone else may be doing the same just now.
  ip netns add "$name" 2>/dev/null || [ -e "/run/netns/$name" ]
  ip -n "$name" link set lo up
fi
exec nsenter --net="/run/netns/$name" "$@"
