package podrun

import (
	"os"
	"path/filepath"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/podrun/volumes"
)

// Requests are what a daemon would be asked for.
type Requests struct {
	Sandbox *runtimeapi.PodSandboxConfig
	// Container is nil when too much is wrong for there to be one.
	Container *runtimeapi.ContainerConfig
}

// PretendIP stands in for the address that a pod gets when it is run.
const PretendIP = "192.0.2.1"

// Pretend makes the requests for the pod without running it. What they refer to is
// in root and objects, which the caller removes; nothing needs privileges, and
// nothing else is touched. notes say what is missing on this machine.
func (m *Manifest) Pretend(root, objects string) (req *Requests, notes []string, err error) {
	pod := m.Pod
	req = &Requests{Sandbox: m.sandboxConfig("")}
	if err := kube.Dir(objects).Put(kube.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}, m.kubeObjects()...); err != nil {
		return req, nil, err
	}
	dir := volumes.Root(root).Dir(string(pod.UID))
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return req, nil, err
	}
	made, notes, err := m.volumes.Pretend(dir)
	m.pretended = made
	if err != nil {
		return req, notes, err
	}
	if err := m.mountHosts(dir, PretendIP, made); err != nil {
		return req, notes, err
	}
	image := pod.Spec.Containers[0].Image
	req.Container, err = m.containerConfig(0, image, PretendIP, made)
	return req, notes, err
}

// Sources says, by host path, what the volumes that Pretend has made stand for.
func (m *Manifest) Sources() map[string]string {
	if m.pretended == nil {
		return nil
	}
	return m.pretended.From
}
