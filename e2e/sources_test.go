package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/qemulet/qemulet/e2e/node"
)

const mappingsPath = "/apis/virtlet.k8s/v1/namespaces/kube-system/virtletimagemappings"

// mapping is the list of VirtletImageMappings with one that translates one name.
func mapping(name, url string) map[string]any {
	return map[string]any{"apiVersion": "virtlet.k8s/v1", "kind": "VirtletImageMappingList", "metadata": map[string]any{}, "items": []any{
		map[string]any{"apiVersion": "virtlet.k8s/v1", "kind": "VirtletImageMapping", "metadata": map[string]any{"name": "broken"}, "spec": map[string]any{"translations": "none"}},
		map[string]any{"apiVersion": "virtlet.k8s/v1", "kind": "VirtletImageMapping", "metadata": map[string]any{"name": "images"},
			"spec": map[string]any{"translations": []any{map[string]any{"name": name, "url": url}}}},
	}}
}

// A guest gets its user-data and SSH keys from objects: of the API server, or as its pod brought them along.
func TestDataSources(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	n := node.Start(t, node.Options{Args: []string{"--kubeconfig", kubeconfig}})
	n.PullTiny(t) // without an API server files translate alone
	if got := strings.Count(n.DaemonLog(), "only those of files count"); got != 1 {
		t.Errorf("the log speaks %d times of the API server that is away", got)
	}

	api := n.APIServer(t, kubeconfig)
	api.Put(mappingsPath, mapping("mapped", "http://127.0.0.1/tiny.qcow2"))
	check(t, pull(t, n, "mapped"))
	mentions(t, n.DaemonLog(), "VirtletImageMapping kube-system/broken skipped")

	api.Put("/api/v1/namespaces/default/configmaps/boot", node.ConfigMap("boot", map[string]string{"script": "#!/bin/sh\n# it says: hello\necho plain hunter2-map\n"}))
	api.Put("/api/v1/namespaces/default/secrets/keys", node.Secret("keys", map[string]string{"authorized_keys": "ssh-ed25519 hunter2-cluster\n"}))
	cluster := n.NewVM(t, "cluster", func(vm *node.VM) {
		vm.Config.Image.Image = "virtlet.cloud/mapped"
		vm.Pod.Annotations["VirtletCloudInitUserDataSource"] = "ConfigMap/boot"
		vm.Pod.Annotations["VirtletCloudInitUserDataSourceKey"] = "script"
		vm.Pod.Annotations["VirtletSSHKeySource"] = "secret/keys"
		vm.Pod.Annotations["VirtletSSHKeys"] = "ssh-ed25519 annotation"
	})
	cluster.Run(t)
	brought := n.NewVM(t, "brought", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletCloudInitUserDataSource"] = "secret/boot"
		vm.Pod.Annotations["VirtletCloudInitUserDataSourceKey"] = "coded"
		vm.Pod.Annotations["VirtletCloudInitUserDataSourceEncoding"] = "base64"
		vm.Pod.Annotations["VirtletSSHKeySource"] = "secret/boot/none"
	})
	remove := brought.BringObjects(t, node.Secret("boot", map[string]string{"coded": base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho coded hunter2-secret\n"))}))
	brought.Run(t)

	cluster.WaitLog(t, `^plain hunter2-map`, node.BootLimit)
	console := cluster.Attach(t)
	if got := console.Command(`grep -o 'ssh-ed25519 [a-z0-9-]*' /run/seed/meta-data | tr '\n' ,`); !strings.Contains(strings.ReplaceAll(got, `\n`, ""), "ssh-ed25519 hunter2-cluster,ssh-ed25519 annotation,") {
		t.Errorf("SSH keys of the guest: %q", got)
	}
	brought.WaitLog(t, `^coded hunter2-secret`, node.BootLimit)
	brought.WaitLog(t, `VirtletSSHKeySource: no SSH key comes from Secret boot: it has no key "none" but "coded"`, time.Second)

	noSecrets(t, n)
	cluster.Remove(t)
	brought.Remove(t)
	remove()
	n.NoLeaks(t)
}

// noSecrets fails if what objects hold is in the daemon's log, its records, or a file that others can read.
func noSecrets(t *testing.T, n *node.Node) {
	t.Helper()
	if strings.Contains(n.DaemonLog(), "hunter2") {
		t.Error("the daemon's log tells a secret")
	}
	for _, q := range n.QEMUs() {
		if cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", q.PID)); strings.Contains(string(cmdline), "hunter2") {
			t.Errorf("QEMU's arguments tell a secret: %q", cmdline)
		}
	}
	raw, err := os.ReadFile(filepath.Join(n.Dir, "state", "qemulet.db"))
	check(t, err)
	if strings.Contains(string(raw), "hunter2") {
		t.Error("the records tell a secret")
	}
	seeds, _ := filepath.Glob(filepath.Join(n.Dir, "state", "pods", "*", "*", "seed.iso"))
	for _, seed := range seeds {
		if dir, err := os.Stat(filepath.Dir(seed)); err != nil || dir.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %v, %v", seed, dir.Mode(), err)
		}
	}
	if len(seeds) != 2 {
		t.Errorf("seeds: %v", seeds)
	}
}

// Objects that cannot be had fail the sandbox, together with all else that is wrong; others pods are not touched.
func TestDataSourcesRefused(t *testing.T) {
	t.Parallel()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	n := node.Start(t, node.Options{Args: []string{"--kubeconfig", kubeconfig}})
	n.PullTiny(t)
	vm := n.NewVM(t, "sources", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletSSHKeySource"] = "secret/denied"
		vm.Pod.Annotations["VirtletCloudInitUserDataSource"] = "configmap/gone"
	})
	refused := func(code codes.Code, words ...string) {
		t.Helper()
		err := vm.TrySandbox(seconds(t, 60))
		if status.Code(err) != code {
			t.Errorf("code %v, want %v", status.Code(err), code)
		}
		mentions(t, fmt.Sprint(err), words...)
	}
	refused(codes.Unavailable, "VirtletSSHKeySource", "Secret default/denied: no access to the Kubernetes API: setting kubeconfig", "no such file", "configmap default/gone")

	api := n.APIServer(t, kubeconfig)
	api.Deny("/api/v1/namespaces/default/secrets/denied")
	refused(codes.FailedPrecondition, `VirtletSSHKeySource = "secret/denied"`, `User "node" cannot get it; let a Role grant the verb get for secrets in namespace default`,
		"VirtletCloudInitUserDataSource", "ConfigMap default/gone does not exist")
	vm.Pod.Annotations["VirtletDiskDriver"] = "ide"
	refused(codes.InvalidArgument, "VirtletDiskDriver", "bad disk driver", "Secret default/denied", "ConfigMap default/gone")

	// The server goes between the sandbox and the container.
	delete(vm.Pod.Annotations, "VirtletSSHKeySource")
	vm.Pod.Annotations["VirtletDiskDriver"] = "virtio"
	api.Put("/api/v1/namespaces/default/configmaps/gone", node.ConfigMap("gone", map[string]string{"packages": "[]"}))
	check(t, vm.TrySandbox(seconds(t, 60)))
	api.Close()
	err := vm.TryCreate(seconds(t, 60))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("code of %v", err)
	}
	mentions(t, fmt.Sprint(err), "VirtletCloudInitUserDataSource", "ConfigMap default/gone", "https://127.0.0.1:6443", "connection refused")

	other := n.NewVM(t, "other", nil)
	check(t, other.TrySandbox(seconds(t, 60)))
	check(t, other.TryCreate(seconds(t, 60)))
	other.Remove(t)
	vm.Remove(t)
	n.NoLeaks(t)
}
