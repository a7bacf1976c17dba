package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// standIn is the pod of the DaemonSet as qemuletctl needs it: the program in its PATH, and the daemon's socket where its environment says.
// The DaemonSet itself wants a node with systemd.
const standIn = `apiVersion: v1
kind: Pod
metadata: {name: qemulet-node, namespace: kube-system, labels: {app.kubernetes.io/name: qemulet}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: node
    image: %[1]s
    command: [sleep, infinity]
    env: [{name: QEMULET_API_SOCKET, value: /host/q/api.sock}]
    volumeMounts:
    - {name: program, mountPath: /usr/local/bin/qemuletctl}
    - {name: run, mountPath: /host/q}
  volumes:
  - {name: program, hostPath: {path: %[2]s, type: File}}
  - {name: run, hostPath: {path: %[3]s, type: Directory}}
`

// operator is an account with the rights that docs/qemuletctl.md names for all but validate.
const operator = `apiVersion: v1
kind: ServiceAccount
metadata: {name: operator, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: e2e-operator}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e-operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: default}]
`

const operatorExecs = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: e2e-operator, namespace: kube-system}
rules: [{apiGroups: [""], resources: [pods/exec], verbs: [create]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: e2e-operator, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: e2e-operator}
subjects: [{kind: ServiceAccount, name: operator, namespace: default}]
`

// ctl is qemuletctl as it is typed far away: it has a kubeconfig file and no socket.
func (c *Cluster) ctl(tb testing.TB, args ...string) []string {
	tb.Helper()
	return append([]string{"env", "QEMULET_API_SOCKET=/none", program(tb, "qemuletctl"), "--kubeconfig", c.Path("kubeconfig")}, args...)
}

func (c *Cluster) tryCtl(tb testing.TB, args ...string) (string, error) {
	tb.Helper()
	cmd := c.Command(c.ctl(tb, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("qemuletctl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

func (c *Cluster) ctlFails(t *testing.T, words string, args ...string) {
	t.Helper()
	if out, err := c.tryCtl(t, args...); err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%v: %q is not in %v; it printed %s", args, words, err, out)
	}
}

// Everything through the API server, as an operator far from the nodes.
func TestCtlFromAfar(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, scripted("far", "", ""))
	c.Apply(t, ordinaryPod)
	c.ctlFails(t, "is qemulet installed, and has the node the label extraRuntime=virtlet?", "ps")
	c.Apply(t, fmt.Sprintf(standIn, BusyboxImage, program(t, "qemuletctl"), c.Path("q")))
	eventually(t, time.Minute, "the stand-in runs", func() error {
		_, err := c.TryKubectl(t, "-n", "kube-system", "exec", "qemulet-node", "--", "qemuletctl", "version", "--client")
		return err
	})
	c.WaitReady(t, "app=far", 1, bootTime)

	c.ctlLooks(t)
	c.ctlRefuses(t)
	c.ctlPresses(t)
	c.ctlRights(t)
	c.ctlInstalls(t)
}

const ordinaryPod = `apiVersion: v1
kind: Pod
metadata: {name: ordinary, labels: {app: ordinary}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: "` + BusyboxImage + `", command: [sleep, infinity]}]
`

func (c *Cluster) ctlLooks(t *testing.T) {
	t.Helper()
	for _, look := range []struct {
		args    []string
		pattern string
	}{
		{[]string{"ps"}, `(?m)^default +far +` + NodeName + ` +running +1 +\d+Mi +10\.244\.`},
		{[]string{"ps", "--node", NodeName, "-o", "wide"}, `virtlet.cloud/tiny`},
		{[]string{"inspect", "far"}, `(?s)Node: +` + NodeName + `.*Interface eth0:.*-device`},
		{[]string{"virsh", "list", "--node", NodeName}, `default/far +running`},
		{[]string{"virsh", "domstats", "--", "@far", "--vcpu"}, `vcpu.0.time=[1-9]`},
		{[]string{"dumpxml", "-n", "default", "far"}, `<name>default/far</name>`},
		{[]string{"version"}, `node ` + NodeName + `: 0\.1\.0`},
		{[]string{"__complete", "console", "fa"}, `^far\n`},
	} {
		out, err := c.tryCtl(t, look.args...)
		if err != nil || !regexp.MustCompile(look.pattern).MatchString(out) {
			t.Errorf("%v: %v: %q does not match\n%s", look.args, err, look.pattern, out)
		}
	}
}

func (c *Cluster) ctlRefuses(t *testing.T) {
	t.Helper()
	c.ctlFails(t, "pod default/ordinary is no VM pod", "inspect", "ordinary")
	c.ctlFails(t, "there is no pod default/gone in the cluster of the API server https://127.0.0.1:6443", "console", "gone")
	c.ctlFails(t, "node elsewhere has no running pod", "ps", "--node", "elsewhere")
	c.ctlFails(t, "is on node "+NodeName+", and --node says elsewhere", "inspect", "--node", "elsewhere", "far")
	c.ctlFails(t, "port 22 of pod default/far", "ssh", "root@far", "--", "true")
}

// ctlPresses is a person at the console, and the power verbs.
func (c *Cluster) ctlPresses(t *testing.T) {
	t.Helper()
	person := node.InTerminal(t, []string{"TERM=xterm"}, c.first.enter(c.ctl(t, "console", "far")...)...)
	person.Expect(`Ctrl-\] leaves it`, 20*time.Second)
	person.Send("\n")
	if got := person.Command("echo al''ive"); got != "alive" {
		t.Errorf("the console answers %q", got)
	}
	_, err := c.tryCtl(t, "suspend", "far")
	must(t, err)
	if out, err := c.tryCtl(t, "ps"); err != nil || !strings.Contains(out, "suspended") {
		t.Errorf("%v: %s", err, out)
	}
	_, err = c.tryCtl(t, "virsh", "resume", "--", "@far")
	must(t, err)
	if got := person.Command("echo wo''ken"); got != "woken" {
		t.Errorf("the console answers %q", got)
	}
	person.Send("\x1d")
	if err := person.Wait(10 * time.Second); err != nil {
		t.Errorf("after Ctrl-]: %v", err)
	}
	c.noRelays(t)

	_, err = c.tryCtl(t, "destroy", "far")
	must(t, err)
	eventually(t, 2*time.Minute, "kubelet boots the VM again", func() error {
		pods := c.Pods(t, "app=far")
		if len(pods) != 1 || len(pods[0].Status.ContainerStatuses) != 1 || pods[0].Status.ContainerStatuses[0].RestartCount == 0 {
			return fmt.Errorf("%+v", pods)
		}
		ended := pods[0].Status.ContainerStatuses[0].LastState.Terminated
		if ended == nil || ended.ExitCode != 137 || !strings.Contains(ended.Message, "by force") {
			return fmt.Errorf("it ended as %+v", ended)
		}
		return nil
	})
}

// noRelays waits until nothing is left of what qemuletctl has started in the stand-in.
func (c *Cluster) noRelays(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "the relays have ended", func() error {
		if out := c.Kubectl(t, "-n", "kube-system", "exec", "qemulet-node", "--", "ps"); strings.Contains(out, "qemuletctl relay") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// ctlRights needs what the documents say, and says what is missing.
func (c *Cluster) ctlRights(t *testing.T) {
	t.Helper()
	c.Apply(t, operator)
	token := strings.TrimSpace(c.Kubectl(t, "create", "token", "operator"))
	file := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf(kubeconfig, token)), 0o600))
	ps := []string{"--kubeconfig", file, "ps"}
	c.ctlFails(t, `cannot create resource "pods/exec"`, ps...)
	c.Apply(t, operatorExecs)
	eventually(t, 20*time.Second, "the operator may exec", func() error {
		out, err := c.tryCtl(t, ps...)
		if err == nil && !strings.Contains(out, "default") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// ctlInstalls: the API server takes what gen prints, validate finds what is missing, and kubectl finds the plugin.
func (c *Cluster) ctlInstalls(t *testing.T) {
	t.Helper()
	out, err := c.tryCtl(t, "validate")
	if err == nil {
		t.Errorf("validate finds nothing: %s", out)
	}
	mentions(t, "validate", out, "BAD  there is no RuntimeClass virtlet", "ok   node "+NodeName+" is Ready", "kubelet knows the handler virtlet", "RuntimeReady", "ok   node "+NodeName+": NetworkReady")
	manifest, err := c.tryCtl(t, "gen", "--image", BusyboxImage)
	must(t, err)
	must(t, c.feed(t, manifest, "apply", "--dry-run=server", "-f", "-"))
	for part := range strings.SplitSeq(manifest, "---\n") {
		if strings.Contains(part, "kind: RuntimeClass\n") {
			c.Apply(t, part)
		}
	}
	if out, err := c.tryCtl(t, "validate"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	_, err = c.tryCtl(t, "install", dir)
	must(t, err)
	kubectl := func(args ...string) string {
		t.Helper()
		cmd := c.Command(append([]string{program(t, "kubernetes"), "kubectl"}, args...)...)
		cmd.Env = append(cmd.Env, "PATH="+dir+":"+os.Getenv("PATH"), "KUBECONFIG="+c.Path("kubeconfig"))
		printed, err := cmd.Output()
		must(t, err)
		return string(printed)
	}
	if printed := kubectl("virt", "ps", "-o", "json"); !json.Valid([]byte(printed)) {
		t.Errorf("kubectl virt ps: %s", printed)
	}
	mentions(t, "kubectl's completion", kubectl("__complete", "virt", "console", "fa"), "far")
}
