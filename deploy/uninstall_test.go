package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeKubectl stands for a cluster in a directory: the file pods has what the list of pods answers. It writes down what it was
// called with.
const fakeKubectl = `#!/bin/bash
dir=$1; shift
echo "$*" >>"$dir/calls"
case "$*" in
  'get runtimeclasses '*) echo -n 'virtlet big-vm ' ;;
  'get nodes -l '*) cat "$dir/nodes" ;;
  'get node '*) [ "$3" != no-node ] || exit 1; cat "$dir/unschedulable" ;;
  'get pods '*) cat "$dir/pods" ;;
  'create --raw '*)
    [ ! -e "$dir/budget" ] || { rm "$dir/budget"; echo 'Cannot evict pod' >&2; exit 1; }
    IFS=/ read -r _ _ _ _ namespace _ name _ <<<"$3"
    [ -e "$dir/stuck" ] || sed -i "/^$namespace|$name|/d" "$dir/pods" ;;
  *' get pods -l '*) cat "$dir/daemon" ;;
  *'systemd-run '*) [ -e "$dir/keeps" ] || touch "$dir/gone"; exit 1 ;;
  *' status --root /host') [ ! -e "$dir/gone" ] || { echo 'qemulet is not installed'; exit 1; } ;;
esac
`

type fakeCluster struct {
	t   *testing.T
	dir string
}

func newFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	f := &fakeCluster{t: t, dir: t.TempDir()}
	for name, text := range map[string]string{
		"kubectl": fakeKubectl, "nodes": "n1\nn2\n", "unschedulable": "", "daemon": "pod/qemulet-x\n",
		"pods": "default|web|ReplicaSet||\ndefault|vm|ReplicaSet||virtlet.cloud\nother|big||big-vm|\nother|runc||runc|\n",
	} {
		f.set(name, text)
	}
	return f
}

func (f *fakeCluster) set(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeCluster) run(args ...string) (said string, calls []string, err error) {
	f.t.Helper()
	f.set("calls", "")
	cmd := exec.Command("./uninstall.sh", args...)
	cmd.Env = append(os.Environ(), "KUBECTL="+f.dir+"/kubectl "+f.dir, "PAUSE=0.1")
	out, err := cmd.CombinedOutput()
	text, readErr := os.ReadFile(filepath.Join(f.dir, "calls"))
	if readErr != nil {
		f.t.Fatal(readErr)
	}
	return string(out), strings.Split(strings.TrimSpace(string(text)), "\n"), err
}

// changing are the calls that change something, each cut to its beginning.
func changing(calls []string) []string {
	var all []string
	for _, c := range calls {
		for _, begin := range []string{"cordon", "uncordon", "create --raw", "label", "-n kube-system exec pod/qemulet-x -c node -- nsenter"} {
			if strings.HasPrefix(c, begin) {
				all = append(all, strings.TrimSuffix(c, " -f -"))
			}
		}
	}
	return all
}

// VM pods go first, also one that has to wait for a budget, and no others; then the installation, then the label.
func TestUninstallOfANodeDrainsIt(t *testing.T) {
	f := newFakeCluster(t)
	f.set("budget", "")
	said, calls, err := f.run("n1")
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	const evict = "create --raw /api/v1/namespaces/"
	want := []string{
		"cordon n1", evict + "default/pods/vm/eviction", evict + "other/pods/big/eviction", evict + "default/pods/vm/eviction",
		"-n kube-system exec pod/qemulet-x -c node -- nsenter --target 1 --mount -- systemd-run --unit qemulet-uninstall --collect --wait /usr/local/sbin/qemulet-node-install uninstall",
		"label node n1 extraRuntime-", "uncordon n1",
	}
	if got := changing(calls); !slices.Equal(got, want) {
		t.Errorf("called %q", got)
	}
}

func TestUninstallOfAllNodes(t *testing.T) {
	f := newFakeCluster(t)
	f.set("unschedulable", "true") // as they were, they stay
	said, calls, err := f.run("--all")
	if err != nil || !strings.Contains(said, "uninstalled on n1") || !strings.Contains(said, "uninstalled on n2") || slices.Contains(calls, "uncordon n1") {
		t.Errorf("%v: %s, called %q", err, said, calls)
	}
	f.set("nodes", "")
	if said, _, err := f.run("--all"); err != nil || !strings.Contains(said, "no node has the label") {
		t.Errorf("%v: %s", err, said)
	}
}

// What cannot be drained is not uninstalled.
func TestUninstallOfANodeThatIsNotDrained(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"stuck":      {"stuck", "", "these VM pods are still on n1 after 1 s, nothing was uninstalled there: default vm ReplicaSet, other big"},
		"daemon set": {"pods", "default|vm|DaemonSet|virtlet|\n", "default/vm on n1 is a DaemonSet's"},
		"no pod":     {"daemon", "", "the DaemonSet's pod is not on n1"},
	} {
		f := newFakeCluster(t)
		f.set(c.file, c.text)
		said, calls, err := f.run("--timeout", "1", "n1")
		if err == nil || !strings.Contains(said, c.want) {
			t.Errorf("%s: %v: %s", name, err, said)
		}
		if got := changing(calls); slices.ContainsFunc(got, func(c string) bool { return strings.Contains(c, "systemd-run") || strings.HasPrefix(c, "label") }) {
			t.Errorf("%s: called %q", name, got)
		}
	}
}

func TestUninstallBadInput(t *testing.T) {
	f := newFakeCluster(t)
	for want, args := range map[string][]string{
		"or --all, are missing":              {},
		"exclude each other":                 {"--all", "n1"},
		`--timeout "soon": a number of`:      {"--timeout", "soon", "n1"},
		`"--force" is no option; see --help`: {"--force"},
		"there is no node no-node":           {"no-node"},
	} {
		if said, calls, err := f.run(args...); err == nil || !strings.Contains(said, want) || len(changing(calls)) != 0 {
			t.Errorf("%q: %v: %s", args, err, said)
		}
	}
}
