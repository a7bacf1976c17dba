#!/bin/bash
# uninstall.sh NODE...: takes qemulet away from nodes of a cluster. It is run where kubectl is. Every step may be repeated.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: uninstall.sh [OPTION...] NODE...

Of each node, one after another: no new pods go to it; its VM pods are evicted, and waited for; kubelet is switched back to its own
runtime, and what was installed is removed; the label extraRuntime goes, and pods may come again. Other pods are left alone.

Options:
  --all            all nodes with the label extraRuntime=virtlet
  --timeout TIME   how long the VM pods of a node may take to go, in seconds (600)

Environment:
  KUBECTL          the program kubectl, with options if need be (kubectl)
EOF
}

fail() { echo "uninstall: $*" >&2; exit 1; }
bad_usage() { echo "uninstall: $*; see --help" >&2; exit 2; }

timeout=600 all='' pause=${PAUSE:-2}
nodes=() kubectl=()
read -ra kubectl <<<"${KUBECTL:-kubectl}"

read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --all) all=1 ;;
      --timeout)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || bad_usage "--timeout \"${2:-}\": a number of seconds is accepted"
        timeout=$2
        shift ;;
      -h | --help) usage; exit ;;
      -*) bad_usage "\"$1\" is no option" ;;
      *) nodes+=("$1") ;;
    esac
    shift
  done
  [ -n "$all" ] || [ ${#nodes[@]} -gt 0 ] || bad_usage "the names of nodes, or --all, are missing"
  [ -z "$all" ] || [ ${#nodes[@]} -eq 0 ] || bad_usage "names of nodes and --all exclude each other"
}

k() { "${kubectl[@]}" "$@"; }

# vm_pods NODE: namespace, name and owner's kind of each VM pod that is there.
vm_pods() {
  local classes
  classes=$(k get runtimeclasses -o 'jsonpath={range .items[?(@.handler=="virtlet")]}{.metadata.name}{" "}{end}')
  k get pods --all-namespaces --field-selector "spec.nodeName=$1" -o 'jsonpath={range .items[*]}{.metadata.namespace}{"|"}{.metadata.name}{"|"}{.metadata.ownerReferences[0].kind}{"|"}{.spec.runtimeClassName}{"|"}{.metadata.annotations.kubernetes\.io/target-runtime}{"\n"}{end}' |
    awk -F'|' -v classes=" $classes" '$5 == "virtlet.cloud" || $4 != "" && index(classes, " " $4 " ") { print $1, $2, $3 }'
}

# evict asks for the end of a pod as kubectl drain does: a PodDisruptionBudget may have it wait.
evict() { # evict NAMESPACE POD
  k create --raw "/api/v1/namespaces/$1/pods/$2/eviction" -f - >/dev/null <<EOF
{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"namespace": "$1", "name": "$2"}}
EOF
}

drain() { # drain NODE
  local pods namespace name owner end=$((SECONDS + timeout))
  while pods=$(vm_pods "$1") && [ -n "$pods" ]; do
    while read -r namespace name owner; do
      [ "$owner" != DaemonSet ] ||
        fail "the VM pod $namespace/$name on $1 is a DaemonSet's, which would make it anew: delete the DaemonSet, or have it avoid the node"
      evict "$namespace" "$name" || true # it is tried again
    done <<<"$pods"
    [ $SECONDS -lt $end ] || fail "these VM pods are still on $1 after $timeout s, nothing was uninstalled there: ${pods//$'\n'/, }"
    sleep "$pause"
  done
  [ -z "$pods" ] || fail "the pods on $1 cannot be listed"
}

# remove_from has systemd of the node do it, for kubelet, through which we speak, is restarted by it.
remove_from() { # remove_from NODE
  local pod end
  pod=$(k -n kube-system get pods -l app.kubernetes.io/name=qemulet --field-selector "spec.nodeName=$1" -o name | head -1)
  [ -n "$pod" ] || fail "the DaemonSet's pod is not on $1: on the node itself, run qemulet-node-install uninstall"
  k -n kube-system exec "$pod" -c node -- nsenter --target 1 --mount -- \
    systemd-run --unit qemulet-uninstall --collect --wait /usr/local/sbin/qemulet-node-install uninstall || true
  end=$((SECONDS + 120))
  until [ "$(k -n kube-system exec "$pod" -c node -- /opt/qemulet/node-install.sh status --root /host 2>/dev/null)" = 'qemulet is not installed' ]; do
    [ $SECONDS -lt $end ] || fail "qemulet is still installed on $1; there, journalctl -u qemulet-uninstall tells why"
    sleep "$pause"
  done
}

uninstall() { # uninstall NODE
  local before
  before=$(k get node "$1" -o 'jsonpath={.spec.unschedulable}') || fail "there is no node $1"
  k cordon "$1"
  drain "$1"
  remove_from "$1"
  k label node "$1" extraRuntime-
  [ "$before" = true ] || k uncordon "$1"
  echo "qemulet is uninstalled on $1"
}

read_options "$@"
if [ -n "$all" ]; then
  found=$(k get nodes -l extraRuntime=virtlet -o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}')
  mapfile -t nodes < <(grep . <<<"$found" || true)
  [ ${#nodes[@]} -gt 0 ] || { echo "no node has the label extraRuntime=virtlet"; exit; }
fi
for node in "${nodes[@]}"; do
  uninstall "$node"
done
echo "to remove qemulet's objects too: kubectl delete -k deploy/base, which also deletes all image and config mappings"
