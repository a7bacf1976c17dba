#!/bin/bash
# node-install.sh install|uninstall|status [OPTION...]: puts qemulet on a node that systemd and a kubelet run on, and takes it
# away again. It is run on the node by hand, or by the DaemonSet, which has the node's file system in a directory (--root)
# and runs commands on the node through ON_HOST. Every step may be repeated and may be interrupted.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: node-install.sh install|uninstall|status [OPTION...]

  install     put the programs, units and the FlexVolume driver in place, start them, and have kubelet talk to the proxy
  uninstall   the reverse; refused while VM pods are on the node
  status      say what is in place; ends with 1 when something is not

Options:
  --root DIR                where the node's file system is (/)
  --from DIR                where the programs and units are (the script's directory, systemd below it, and bin beside it)
  --primary SOCKET          the runtime of ordinary pods (containerd's or CRI-O's socket, whichever is there)
  --volume-plugin-dir DIR   kubelet's (/usr/libexec/kubernetes/kubelet-plugins/volume/exec)
  --kubelet-root DIR        kubelet's --root-dir (/var/lib/kubelet)
  --node-name NAME          what the cluster calls the node (the host's name)
  --pod-uid UID             the pod that this runs in: the daemon takes the pod's service account and image translations
  --force                   uninstall although VM pods are there, or may be; they are then lost to kubelet

Environment:
  ON_HOST                   what to put before commands that are for the node, such as "nsenter --target 1 --mount --"
EOF
}

fail() { echo "node-install: $*" >&2; exit 1; }
bad_usage() { echo "node-install: $*; see --help" >&2; exit 2; }

root=/ primary='' node_name='' pod_uid='' force=''
from=$(dirname "$(readlink -f "$0")")
plugins=/usr/libexec/kubernetes/kubelet-plugins/volume/exec
kubelet_root=/var/lib/kubelet
declare -a on_host
read -ra on_host <<<"${ON_HOST:-}"

state=/var/lib/qemulet-install
kubelet_dropin=/etc/systemd/system/kubelet.service.d/99-qemulet.conf
cluster=/etc/qemulet/cluster

absolute() { # absolute OPTION PATH: plain, for some of them become part of units
  [[ $2 =~ ^/[A-Za-z0-9._/@:~+-]*$ ]] || bad_usage "$1 \"$2\": an absolute path of letters, digits and . _ - / @ : ~ + is accepted"
}

read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
      --force) force=1; shift; continue ;;
      --root | --from | --primary | --volume-plugin-dir | --kubelet-root | --node-name | --pod-uid) ;;
      *) bad_usage "\"$1\" is no option" ;;
    esac
    [ $# -gt 1 ] || bad_usage "$1 needs a value"
    case $1 in --pod-uid | --node-name) ;; *) absolute "$1" "$2" ;; esac
    case $1 in
      --root) root=$2 ;;
      --from) from=$2 ;;
      --primary) primary=$2 ;;
      --volume-plugin-dir) plugins=$2 ;;
      --kubelet-root) kubelet_root=$2 ;;
      --node-name) [[ $2 =~ ^[a-z0-9.-]+$ ]] || bad_usage "--node-name \"$2\": lower case letters, digits, . and - are accepted"; node_name=$2 ;;
      --pod-uid) [[ $2 =~ ^[0-9a-zA-Z-]+$ ]] || bad_usage "--pod-uid \"$2\": letters, digits and - are accepted"; pod_uid=$2 ;;
    esac
    shift 2
  done
  root=${root%/}
  [ -d "$root/" ] || fail "--root $root is no directory"
}

run_on_host() { "${on_host[@]}" "$@"; }
systemctl() { "${on_host[@]:-command}" systemctl "$@"; } # the program, and not this function

source_of() { # source_of NAME: where a file of ours is
  local dir
  for dir in "$from" "$from/systemd" "$from/../bin"; do
    if [ -f "$dir/$1" ]; then
      echo "$dir/$1"
      return
    fi
  done
  return 1
}

recorded() { grep -qxF -- "$1" "$root$state/files" 2>/dev/null; }

# own TARGET: from now on it is ours to remove. What somebody else had put there is kept for the uninstallation.
own() {
  recorded "$1" && return
  mkdir -p "$(dirname "$root$1")"
  if [ -e "$root$1" ] || [ -L "$root$1" ]; then
    cp -a "$root$1" "$root$1.before-qemulet"
  fi
  echo "$1" >>"$root$state/files"
}

# put SOURCE TARGET MODE [UNIT]: by rename, so that nobody ever sees half a file, and a program may be running. The unit is to
# be restarted when that changed anything, also if this run does not get that far.
put() {
  local to=$root$2 temporary
  own "$2"
  if cmp -s "$1" "$to" && [ "$(stat -c %a "$to")" = "$3" ]; then return; fi
  mkdir -p "${to%/*}"
  if [ -n "${4:-}" ]; then touch "$root$state/pending.$4"; fi
  # kubelet overlooks names in its plugin directories that begin with a dot.
  temporary=${to%/*}/.qemulet-new.${to##*/}
  (umask 077 && cat "$1" >"$temporary")
  chmod "$3" "$temporary"
  sync "$temporary"
  mv -fT "$temporary" "$to"
  echo "installed $2"
}

put_text() { # put_text TARGET MODE UNIT <TEXT
  cat >"$work/text"
  put "$work/text" "$1" "$2" "$3"
}

put_link() { # put_link TARGET WHERE
  own "$1"
  [ "$(readlink "$root$1" || true)" = "$2" ] && return
  ln -sfn "$2" "$root$1.new"
  mv -fT "$root$1.new" "$root$1"
  echo "linked $1 -> $2"
}

programs='qemulet criproxy flexvolume_driver qemuletctl'
units='qemulet.service criproxy.service'

check_node() {
  local name missing='' qemu found=''
  for name in $programs $units qemulet-sysusers.conf; do
    source_of "$name" >/dev/null || missing+=" $name"
  done
  [ -z "$missing" ] || fail "not in $from:$missing; \"make build\" makes the programs"
  [ -d "$root/run/systemd/system" ] || fail "systemd does not run on the node: there is no /run/systemd/system"
  for qemu in /usr/bin/qemu-system-x86_64 /usr/libexec/qemu-kvm; do
    [ ! -x "$root$qemu" ] || found=1
  done
  [ -n "$found" ] || fail "QEMU is not on the node: install qemu-system-x86 (Debian, Ubuntu) or qemu-kvm (Fedora, RHEL) there"
}

find_primary() {
  local socket
  if [ -n "$primary" ]; then
    [ -e "$root$primary" ] || fail "--primary $primary is not there"
    return
  fi
  for socket in /run/containerd/containerd.sock /run/crio/crio.sock; do
    if [ -e "$root$socket" ]; then
      primary=$socket
      return
    fi
  done
  fail "no runtime for ordinary pods: neither /run/containerd/containerd.sock nor /run/crio/crio.sock is there; name it with --primary"
}

# kubelet tells by the end of the path that CRI-O is behind it, and measures in another way then.
listen() {
  case $primary in
    */run/crio/crio.sock) echo /run/criproxy/run/crio/crio.sock ;;
    *) echo /run/criproxy.sock ;;
  esac
}

proxy_settings() {
  echo '[Service]'
  echo "Environment=\"CRIPROXY_ARGS=-connect $primary,virtlet.cloud:/run/qemulet/cri.sock -listen $(listen)\""
  case $(listen) in /run/criproxy/*) echo RuntimeDirectory=criproxy/run/crio ;; esac
}

install_files() {
  local name
  for name in qemulet criproxy; do
    put "$(source_of $name)" "/usr/local/bin/$name" 755 "$name"
    put "$(source_of $name.service)" "/etc/systemd/system/$name.service" 644 "$name"
  done
  put "$(source_of qemuletctl)" /usr/local/bin/qemuletctl 755
  put "$(source_of flexvolume_driver)" "$plugins/virtlet~flexvolume_driver/flexvolume_driver" 755
  put "$(source_of qemulet-sysusers.conf)" /etc/sysusers.d/qemulet.conf 644
  put "$(readlink -f "$0")" /usr/local/sbin/qemulet-node-install 755
  proxy_settings | put_text /etc/systemd/system/criproxy.service.d/10-node.conf 644 criproxy
  put_text /etc/systemd/system/qemulet.service.d/10-node.conf 644 qemulet <<EOF
[Service]
Environment=QEMULET_KUBELET_ROOT_DIR=$kubelet_root
${node_name:+Environment=QEMULET_NODE_NAME=$node_name}
EOF
}

# install_access gives the daemon what kubelet keeps up to date in the pod's volumes: the service account's token, and the image
# translations. The link is all that changes when the pod is another.
install_access() {
  local account=$cluster/kubernetes.io~projected/api-access host=${KUBERNETES_SERVICE_HOST:-}
  [ -n "$pod_uid" ] || return 0
  [ -n "$host" ] && [ -n "${KUBERNETES_SERVICE_PORT:-}" ] ||
    fail "--pod-uid is for pods, but KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not say where the API server is"
  case $host in *:*) host="[$host]" ;; esac
  put_link $cluster "$kubelet_root/pods/$pod_uid/volumes"
  put_text /etc/qemulet/kubeconfig 600 '' <<EOF
apiVersion: v1
kind: Config
current-context: node
contexts:
- name: node
  context: {cluster: cluster, user: qemulet}
clusters:
- name: cluster
  cluster:
    server: https://$host:$KUBERNETES_SERVICE_PORT
    certificate-authority: $account/ca.crt
users:
- name: qemulet
  user:
    tokenFile: $account/token
EOF
  put_text /etc/systemd/system/qemulet.service.d/20-cluster.conf 644 qemulet <<EOF
[Service]
Environment=QEMULET_KUBECONFIG=/etc/qemulet/kubeconfig
Environment=QEMULET_IMAGE_TRANSLATION_DIR=$cluster/kubernetes.io~configmap/image-translations
EOF
}

# activate UNIT: started now and at every boot, and started anew if it runs with what has changed.
activate() {
  systemctl enable "$1.service"
  if [ -e "$root$state/pending.$1" ]; then
    systemctl restart "$1.service" || fail "$1 does not start; kubelet was left alone. journalctl -u $1 tells why"
    rm "$root$state/pending.$1"
  else
    systemctl start "$1.service" || fail "$1 does not start. journalctl -u $1 tells why"
  fi
}

# kubelet_command is how kubelet is started without us: the last ExecStart of its unit and drop-ins but ours.
kubelet_command() {
  systemctl cat kubelet.service | awk -v own="$kubelet_dropin" '
    /^# \/[^ ]*\.(service|conf)$/ { file = substr($0, 3); next }
    file == own { next }
    { line = line $0 }
    sub(/\\$/, " ", line) { next }
    line ~ /^[ \t]*ExecStart[ \t]*=/ { sub(/^[^=]*=[ \t]*/, "", line); command = line }
    { line = "" }
    END { print command }'
}

# A flag counts more than kubelet's configuration file, and the last one more than those before: this holds whatever way the
# node has its endpoint from, and none of its own files is changed.
switch_kubelet() {
  local command=$1
  put_text $kubelet_dropin 644 kubelet <<EOF
# Written by qemulet-node-install, which also removes it.
[Unit]
Wants=criproxy.service
After=criproxy.service

[Service]
ExecStart=
ExecStart=$command --container-runtime-endpoint=unix://$(listen)
EOF
  systemctl daemon-reload
  [ -e "$root$state/pending.kubelet" ] || return 0
  if ! systemctl restart kubelet.service || ! systemctl is-active --quiet kubelet.service; then
    unswitch_kubelet || true
    fail "kubelet does not start with the proxy, and was switched back. journalctl -u kubelet tells why"
  fi
  rm "$root$state/pending.kubelet"
}

unswitch_kubelet() {
  if [ -e "$root$kubelet_dropin" ]; then
    touch "$root$state/pending.kubelet"
    remove $kubelet_dropin
  fi
  [ -e "$root$state/pending.kubelet" ] || return 0
  systemctl daemon-reload
  systemctl restart kubelet.service
  rm "$root$state/pending.kubelet"
}

remove() { # remove TARGET: what was there before is put back
  rm -f "$root$1"
  if [ -e "$root$1.before-qemulet" ] || [ -L "$root$1.before-qemulet" ]; then
    mv -fT "$root$1.before-qemulet" "$root$1"
  fi
  # Directories that others use are not empty, and stay.
  rmdir "$root${1%/*}" 2>/dev/null || true
  echo "removed $1"
}

install() {
  local command
  check_node
  find_primary
  command=$(kubelet_command) || command=''
  [ -n "$command" ] || fail "the node has no kubelet.service with an ExecStart: kubelet must be a service of systemd's"
  mkdir -p "$root$state"
  rm -f "$root$state/uninstalling"
  install_files
  install_access
  run_on_host systemd-sysusers /etc/sysusers.d/qemulet.conf
  systemctl daemon-reload
  activate qemulet
  activate criproxy
  switch_kubelet "$command"
  echo "qemulet is installed, and kubelet talks to unix://$(listen)"
}

# The ids of qemulet's pods all begin alike.
refuse_while_pods_run() {
  local pods
  [ -z "$force" ] && [ ! -e "$root$state/uninstalling" ] || return 0
  systemctl is-active --quiet qemulet.service || fail "qemulet does not run and cannot be asked for VM pods: start it, or use --force"
  pods=$(run_on_host /usr/local/bin/qemulet ps) || fail "qemulet cannot be asked for VM pods: see above, or use --force"
  if grep 716d6c74 <<<"$pods" >&2; then
    fail "these VM pods are on the node: drain it first (kubectl drain), or use --force"
  fi
}

uninstall() {
  local file
  if [ ! -e "$root$state/files" ]; then
    echo "qemulet is not installed"
    return
  fi
  refuse_while_pods_run
  touch "$root$state/uninstalling"
  unswitch_kubelet
  for file in criproxy qemulet; do
    [ ! -e "$root/etc/systemd/system/$file.service" ] || systemctl disable --now "$file.service"
  done
  while IFS= read -r file; do
    if [ -e "$root$file" ] || [ -L "$root$file" ]; then remove "$file"; fi
  done <"$root$state/files"
  systemctl daemon-reload
  rm -r "$root$state"
  echo "qemulet is uninstalled; /var/lib/qemulet and /etc/qemulet/config.yaml, if they are there, are kept"
}

status() {
  local file unit result=0
  if [ ! -e "$root$state/files" ]; then
    echo "qemulet is not installed"
    return 1
  fi
  while IFS= read -r file; do
    [ -e "$root$file" ] || [ -L "$root$file" ] || { echo "BAD  $file is missing"; result=1; }
  done <"$root$state/files"
  for unit in qemulet criproxy kubelet; do
    if systemctl is-active --quiet $unit.service; then
      echo "ok   $unit runs"
    else
      echo "BAD  $unit does not run"
      result=1
    fi
  done
  recorded $kubelet_dropin && [ -e "$root$kubelet_dropin" ] || { echo "BAD  kubelet does not talk to the proxy"; result=1; }
  return $result
}

case ${1:-} in
  install | uninstall | status) action=$1; shift ;;
  -h | --help) usage; exit ;;
  '') bad_usage "install, uninstall or status is missing" ;;
  *) bad_usage "\"$1\" is none of install, uninstall, status" ;;
esac
read_options "$@"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$root/run"
exec 9>"$root/run/qemulet-install.lock"
flock 9 # of two installers one waits
$action
