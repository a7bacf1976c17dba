package deploy

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// onHost stands for commands of the node. It writes down what it was called
// with, and fails when the file fail has the beginning of that.
const onHost = `#!/bin/bash
root=$1; shift
echo "$*" >>"$root/calls"
if [ -e "$root/fail" ] && [[ "$*" == $(cat "$root/fail")* ]]; then echo "it does not go" >&2; exit 1; fi
case "$*" in
  'systemctl cat kubelet.service')
    for f in "$root"/usr/lib/systemd/system/kubelet.service "$root"/etc/systemd/system/kubelet.service.d/*.conf; do
      [ ! -e "$f" ] || { echo "# ${f#$root}"; cat "$f"; echo; }
    done ;;
  '/usr/local/bin/qemulet ps') cat "$root/pods" ;;
esac
`

const kubeletUnit = `[Unit]
Description=kubelet
# a comment
[Service]
ExecStart=/usr/bin/kubelet
Restart=always
`

// The way kubeadm has it, with a line that goes on.
const kubeletDropin = `[Service]
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_CONFIG_ARGS \
  $KUBELET_EXTRA_ARGS
`

// host is a node in a directory.
type host struct {
	t          *testing.T
	root, from string
	env        []string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, root: t.TempDir(), from: t.TempDir()}
	for _, name := range []string{"qemulet", "criproxy", "flexvolume_driver", "qemuletctl"} {
		h.write(filepath.Join(h.from, name), "program "+name, 0o755)
	}
	for _, name := range []string{"qemulet.service", "criproxy.service", "qemulet-sysusers.conf"} {
		text, err := os.ReadFile("systemd/" + name)
		h.must(err)
		h.write(filepath.Join(h.from, name), string(text), 0o644)
	}
	for name, text := range map[string]string{
		"run/systemd/system/x":                             "",
		"run/containerd/containerd.sock":                   "",
		"usr/lib/systemd/system/kubelet.service":           kubeletUnit,
		"etc/systemd/system/kubelet.service.d/10-adm.conf": kubeletDropin,
		"pods": "there are no pods; `qemulet run POD.yaml` makes one",
	} {
		h.write(filepath.Join(h.root, name), text, 0o644)
	}
	h.write(filepath.Join(h.root, "usr/bin/qemu-system-x86_64"), "", 0o755)
	command := filepath.Join(t.TempDir(), "host")
	h.write(command, onHost, 0o755)
	h.env = []string{"PATH=" + os.Getenv("PATH"), "ON_HOST=" + command + " " + h.root}
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) write(path, text string, mode fs.FileMode) {
	h.t.Helper()
	h.must(os.MkdirAll(filepath.Dir(path), 0o755))
	h.must(os.WriteFile(path, []byte(text), mode))
}

// set writes a file of the node, has reads it; it is "" when it is not there.
func (h *host) set(path, text string) { h.write(filepath.Join(h.root, path), text, 0o644) }

func (h *host) has(path string) string {
	text, err := os.ReadFile(filepath.Join(h.root, path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	return string(text)
}

// run runs the installer and returns what it said and what it called.
func (h *host) run(args ...string) (said string, calls []string, err error) {
	h.t.Helper()
	_ = os.Remove(filepath.Join(h.root, "calls"))
	cmd := exec.Command("./node-install.sh", append(args, "--root", h.root, "--from", h.from)...)
	cmd.Env = h.env
	out, err := cmd.CombinedOutput()
	return string(out), strings.Split(strings.TrimSpace(h.has("calls")), "\n"), err
}

func (h *host) mustRun(args ...string) (said string, calls []string) {
	h.t.Helper()
	said, calls, err := h.run(args...)
	if err != nil {
		h.t.Fatalf("%v: %v\n%s", args, err, said)
	}
	return said, calls
}

func (h *host) refused(want string, args ...string) {
	h.t.Helper()
	if said, _, err := h.run(args...); err == nil || !strings.Contains(said, want) {
		h.t.Errorf("%v: %v, no %q in: %s", args, err, want, said)
	}
}

// files are all files of the node with their contents and modes, but for those
// of this test and of no meaning.
func (h *host) files() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	h.must(filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, h.root)
		if err != nil || d.IsDir() || slices.Contains([]string{"/calls", "/fail", "/pods", "/run/qemulet-install.lock"}, name) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			all[name] = "-> " + to
			return err
		}
		text, err := os.ReadFile(path)
		all[name] = info.Mode().String() + " " + string(text)
		return err
	}))
	return all
}

// On the node itself nothing stands before its commands: they are found in PATH.
func TestInstallByHand(t *testing.T) {
	h := newHost(t)
	command := strings.TrimPrefix(h.env[1], "ON_HOST=")
	path := t.TempDir()
	for _, program := range []string{"systemctl", "systemd-sysusers"} {
		h.write(filepath.Join(path, program), "#!/bin/sh\nexec "+command+" "+program+" \"$@\"\n", 0o755)
	}
	h.env = []string{"PATH=" + path + ":" + os.Getenv("PATH")}
	_, calls := h.mustRun("install")
	for _, want := range []string{"systemctl cat kubelet.service", "systemd-sysusers /etc/sysusers.d/qemulet.conf", "systemctl restart kubelet.service"} {
		if !slices.Contains(calls, want) {
			t.Errorf("%q was not called: %q", want, calls)
		}
	}
	h.mustRun("status")
}

const dropin = "/etc/systemd/system/kubelet.service.d/99-qemulet.conf"

func TestInstallAndUninstall(t *testing.T) {
	h := newHost(t)
	before := h.files()
	_, calls := h.mustRun("install")
	want := []string{
		"systemctl cat kubelet.service", "systemd-sysusers /etc/sysusers.d/qemulet.conf", "systemctl daemon-reload",
		"systemctl enable qemulet.service", "systemctl restart qemulet.service",
		"systemctl enable criproxy.service", "systemctl restart criproxy.service",
		"systemctl daemon-reload", "systemctl restart kubelet.service", "systemctl is-active --quiet kubelet.service",
	}
	if !slices.Equal(calls, want) {
		t.Errorf("called %q", calls)
	}
	if want := "\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_CONFIG_ARGS    $KUBELET_EXTRA_ARGS --container-runtime-endpoint=unix:///run/criproxy.sock\n"; !strings.HasSuffix(h.has(dropin), want) {
		t.Errorf("kubelet: %s", h.has(dropin))
	}
	installed := h.files()
	for path, want := range map[string]string{
		"/usr/local/bin/qemulet":    "-rwxr-xr-x program qemulet",
		"/usr/local/bin/criproxy":   "-rwxr-xr-x program criproxy",
		"/usr/local/bin/qemuletctl": "-rwxr-xr-x program qemuletctl",
		"/usr/libexec/kubernetes/kubelet-plugins/volume/exec/virtlet~flexvolume_driver/flexvolume_driver": "-rwxr-xr-x program flexvolume_driver",
	} {
		if installed[path] != want {
			t.Errorf("%s is %q", path, installed[path])
		}
	}
	if _, calls := h.mustRun("status"); len(calls) != 3 {
		t.Errorf("status called %q", calls)
	}
	h.mustRun("uninstall")
	if after := h.files(); !maps.Equal(after, before) {
		t.Errorf("left %v", slices.Sorted(maps.Keys(after)))
	}
	h.refused("qemulet is not installed", "status")
	if said, _ := h.mustRun("uninstall"); !strings.Contains(said, "is not installed") {
		t.Errorf("said %s", said)
	}
}

// A second installation changes nothing and restarts nothing; an upgrade
// restarts what is new, and only that.
func TestInstallAgain(t *testing.T) {
	h := newHost(t)
	h.mustRun("install")
	first := h.files()
	said, calls := h.mustRun("install")
	if !maps.Equal(h.files(), first) || strings.Contains(said, "installed /") {
		t.Errorf("changed something: %s", said)
	}
	h.write(filepath.Join(h.from, "criproxy"), "newer", 0o755)
	_, upgrade := h.mustRun("install")
	for name, c := range map[string]struct{ calls, want []string }{"again": {calls, nil}, "upgrade": {upgrade, []string{"systemctl restart criproxy.service"}}} {
		restarts := slices.DeleteFunc(c.calls, func(call string) bool { return !strings.Contains(call, "restart") })
		if !slices.Equal(restarts, c.want) {
			t.Errorf("%s: %q", name, restarts)
		}
	}
	// kubelet's own unit has changed: the drop-in follows.
	h.set("etc/systemd/system/kubelet.service.d/10-adm.conf", "[Service]\nExecStart=\nExecStart=/opt/kubelet --new\n")
	h.mustRun("install")
	if !strings.Contains(h.has(dropin), "\nExecStart=/opt/kubelet --new --container-runtime-endpoint=") || strings.Count(h.has(dropin), "endpoint") != 1 {
		t.Errorf("kubelet: %s", h.has(dropin))
	}
}

// What fails leaves kubelet as it was, and is caught up on by the next run.
func TestInstallThatFails(t *testing.T) {
	for step, want := range map[string]string{
		"systemctl restart qemulet":   "qemulet does not start; kubelet was left alone",
		"systemctl restart criproxy":  "criproxy does not start; kubelet was left alone",
		"systemctl restart kubelet":   "kubelet does not start with the proxy, and was switched back",
		"systemctl is-active --quiet": "kubelet does not start with the proxy, and was switched back",
		"systemd-sysusers":            "it does not go",
	} {
		h := newHost(t)
		h.set("fail", step)
		h.refused(want, "install")
		if h.has(dropin) != "" {
			t.Errorf("%s: kubelet is switched", step)
		}
		h.must(os.Remove(filepath.Join(h.root, "fail")))
		_, calls := h.mustRun("install")
		if !slices.Contains(calls, "systemctl restart kubelet.service") || h.has(dropin) == "" {
			t.Errorf("%s: then called %q", step, calls)
		}
		h.mustRun("status")
	}
}

func TestUninstallIsRefusedWhilePodsAreThere(t *testing.T) {
	h := newHost(t)
	h.mustRun("install")
	installed := h.files()
	h.set("pods", "NAMESPACE POD ID\ndefault web 716d6c74aabbccdd0011\n")
	h.refused("VM pods are on the node: drain it first", "uninstall")
	h.set("fail", "/usr/local/bin/qemulet ps")
	h.refused("qemulet cannot be asked for VM pods", "uninstall")
	h.set("fail", "systemctl is-active --quiet qemulet")
	h.refused("qemulet does not run and cannot be asked", "uninstall")
	if !maps.Equal(h.files(), installed) {
		t.Error("something was changed")
	}
	h.mustRun("uninstall", "--force")
}

// A step that fails is where the next run goes on, though nobody can be asked
// for pods by then.
func TestUninstallThatFails(t *testing.T) {
	for _, step := range []string{"systemctl restart kubelet", "systemctl disable --now qemulet"} {
		h := newHost(t)
		before := h.files()
		h.mustRun("install")
		h.set("fail", step)
		h.refused("it does not go", "uninstall")
		h.set("fail", "systemctl is-active")
		_, calls := h.mustRun("uninstall")
		if restarts := slices.Contains(calls, "systemctl restart kubelet.service"); restarts != strings.Contains(step, "kubelet") {
			t.Errorf("%s: then called %q", step, calls)
		}
		if !maps.Equal(h.files(), before) {
			t.Errorf("%s: left %v", step, slices.Sorted(maps.Keys(h.files())))
		}
	}
}

// What others had in a place of ours comes back.
func TestUninstallRestores(t *testing.T) {
	h := newHost(t)
	driver := "/opt/plugins/virtlet~flexvolume_driver/flexvolume_driver"
	h.set(driver, "Virtlet's")
	before := h.files()
	h.mustRun("install", "--volume-plugin-dir", "/opt/plugins")
	h.mustRun("install", "--volume-plugin-dir", "/opt/plugins")
	if h.has(driver) != "program flexvolume_driver" {
		t.Errorf("the driver is %q", h.has(driver))
	}
	h.mustRun("uninstall")
	if !maps.Equal(h.files(), before) {
		t.Errorf("left %v", slices.Sorted(maps.Keys(h.files())))
	}
}

func TestInstallWithCRIO(t *testing.T) {
	h := newHost(t)
	h.must(os.Remove(filepath.Join(h.root, "run/containerd/containerd.sock")))
	h.refused("no runtime for ordinary pods", "install")
	h.set("run/crio/crio.sock", "")
	h.mustRun("install")
	proxy := h.has("/etc/systemd/system/criproxy.service.d/10-node.conf")
	for _, want := range []string{"-connect /run/crio/crio.sock,virtlet.cloud:", "-listen /run/criproxy/run/crio/crio.sock\"\n", "RuntimeDirectory=criproxy/run/crio\n"} {
		if !strings.Contains(proxy, want) {
			t.Errorf("no %q in %s", want, proxy)
		}
	}
	if !strings.HasSuffix(h.has(dropin), "=unix:///run/criproxy/run/crio/crio.sock\n") {
		t.Errorf("kubelet: %s", h.has(dropin))
	}
}

// In a pod the daemon gets the pod's account and translations; the next pod
// changes a link and restarts nothing.
func TestInstallInPod(t *testing.T) {
	h := newHost(t)
	before := h.files()
	h.refused("do not say where the API server is", "install", "--pod-uid", "uid-1")
	h.env = append(h.env, "KUBERNETES_SERVICE_HOST=fd00::1", "KUBERNETES_SERVICE_PORT=443")
	h.mustRun("install", "--pod-uid", "uid-1", "--node-name", "node-1.example")
	if got := h.files()["/etc/qemulet/cluster"]; got != "-> /var/lib/kubelet/pods/uid-1/volumes" {
		t.Errorf("the link is %q", got)
	}
	for file, want := range map[string]string{
		"/etc/qemulet/kubeconfig":                               "server: https://[fd00::1]:443\n",
		"/etc/systemd/system/qemulet.service.d/10-node.conf":    "QEMULET_NODE_NAME=node-1.example\n",
		"/etc/systemd/system/qemulet.service.d/20-cluster.conf": "QEMULET_KUBECONFIG=/etc/qemulet/kubeconfig\n",
	} {
		if !strings.Contains(h.has(file), want) {
			t.Errorf("%s: %s", file, h.has(file))
		}
	}
	_, calls := h.mustRun("install", "--pod-uid", "uid-2", "--node-name", "node-1.example")
	if got := h.files()["/etc/qemulet/cluster"]; got != "-> /var/lib/kubelet/pods/uid-2/volumes" || slices.Contains(calls, "systemctl restart qemulet.service") {
		t.Errorf("the link is %q, called %q", got, calls)
	}
	h.mustRun("uninstall")
	if !maps.Equal(h.files(), before) {
		t.Errorf("left %v", slices.Sorted(maps.Keys(h.files())))
	}
}

func TestStatusTellsWhatIsMissing(t *testing.T) {
	h := newHost(t)
	h.mustRun("install")
	h.must(os.Remove(filepath.Join(h.root, dropin)))
	h.refused("BAD  kubelet does not talk to the proxy", "status")
	h.mustRun("install")
	h.set("fail", "systemctl is-active --quiet criproxy")
	h.refused("BAD  criproxy does not run", "status")
}

func TestBadInput(t *testing.T) {
	h := newHost(t)
	before := h.files()
	for want, args := range map[string][]string{
		`"reinstall" is none of`:             {"reinstall"},
		`"--rot" is no option`:               {"install", "--rot"},
		`--primary "x y": an absolute path`:  {"install", "--primary", "x y"},
		`--kubelet-root "/a%n": an absolute`: {"install", "--kubelet-root", "/a%n"},
		`--node-name "A B": lower case`:      {"install", "--node-name", "A B"},
		`--pod-uid "../..": letters, digits`: {"install", "--pod-uid", "../.."},
		"--primary /run/nothing.sock is not": {"install", "--primary", "/run/nothing.sock"},
	} {
		h.refused(want, args...)
	}
	for want, gone := range map[string]string{
		"not in " + h.from + ": criproxy;":      filepath.Join(h.from, "criproxy"),
		"QEMU is not on the node":               filepath.Join(h.root, "usr/bin/qemu-system-x86_64"),
		"systemd does not run on the node":      filepath.Join(h.root, "run/systemd"),
		"the node has no kubelet.service with ": filepath.Join(h.root, "etc/systemd/system/kubelet.service.d"),
	} {
		aside := filepath.Join(t.TempDir(), "aside")
		h.must(os.Rename(gone, aside))
		if strings.Contains(want, "kubelet") {
			h.set("usr/lib/systemd/system/kubelet.service", "[Unit]\n")
		}
		h.refused(want, "install")
		h.must(os.Rename(aside, gone))
	}
	h.set("usr/lib/systemd/system/kubelet.service", kubeletUnit)
	h.set("fail", "systemctl cat")
	h.refused("the node has no kubelet.service with ", "install")
	if !maps.Equal(h.files(), before) {
		t.Error("something was changed")
	}
	out, err := exec.Command("./node-install.sh").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !bytes.Contains(out, []byte("is missing; see --help")) {
		t.Errorf("%v: %s", err, out)
	}
}
