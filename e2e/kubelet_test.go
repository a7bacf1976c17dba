package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// kubeletPod is a pod's directory as kubelet keeps it, and the mounts that kubelet makes of what is in there.
type kubeletPod struct {
	t   *testing.T
	vm  *node.VM
	dir string
}

func newKubeletPod(t *testing.T, vm *node.VM) *kubeletPod {
	t.Helper()
	return &kubeletPod{t, vm, filepath.Join(vm.Node.Dir, "kubelet/pods", vm.Pod.Metadata.Uid)}
}

func (k *kubeletPod) mount(containerPath, hostPath string, readOnly bool) {
	k.vm.Config.Mounts = append(k.vm.Config.Mounts, &runtimeapi.Mount{ContainerPath: containerPath, HostPath: hostPath, Readonly: readOnly})
}

func (k *kubeletPod) write(path, content string, mode os.FileMode) string {
	k.t.Helper()
	path = filepath.Join(k.dir, path)
	check(k.t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(k.t, os.WriteFile(path, []byte(content), 0o600))
	check(k.t, os.Chmod(path, mode))
	return path
}

// object makes a volume of the kind "configmap", "secret" and so on, laid out as kubelet's atomic writer does it.
func (k *kubeletPod) object(kind, name string, mode os.FileMode, files map[string]string) string {
	k.t.Helper()
	const state = "..2026_11_22_10_00_00.123456789"
	volume := filepath.Join("volumes/kubernetes.io~"+kind, name)
	for file, content := range files {
		k.write(filepath.Join(volume, state, file), content, mode)
		top, _, _ := strings.Cut(file, "/")
		os.Symlink(filepath.Join("..data", top), filepath.Join(k.dir, volume, top)) // there already, for the second file of a directory
	}
	check(k.t, os.Symlink(state, filepath.Join(k.dir, volume, "..data")))
	return filepath.Join(k.dir, volume)
}

// own adds what every container gets. domain is that of the pod's subdomain, or empty.
func (k *kubeletPod) own(domain string) {
	k.t.Helper()
	names := k.vm.Pod.Hostname
	if domain != "" {
		names += "." + domain + "\t" + k.vm.Pod.Hostname
	}
	k.mount("/etc/hosts", k.write("etc-hosts", "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n10.1.2.3\t"+names+"\n", 0o644), false)
	k.mount("/dev/termination-log", k.write("containers/vm/0a1b2c3d", "", 0o666), false)
	k.mount("/var/run/secrets/kubernetes.io/serviceaccount",
		k.object("projected", "kube-api-access-x7k2p", 0o644, map[string]string{"token": "t0k3n", "ca.crt": "a certificate\n", "namespace": "default"}), true)
}

// subPath makes the mount point at which kubelet would have one file or directory of a volume; here it is a copy.
func (k *kubeletPod) subPath(volume, index, content string, mode os.FileMode) string {
	k.t.Helper()
	return k.write(filepath.Join("volume-subpaths", volume, "vm", index), content, mode)
}
