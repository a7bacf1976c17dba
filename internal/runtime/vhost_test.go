package runtime

import (
	"path/filepath"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

func TestVhostUsable(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "missing"), "/dev/null"} {
		if vhostUsable(path) {
			t.Errorf("%s passes for vhost-net", path)
		}
	}
	for _, r := range []*Runtime{{}, {Options: Options{VhostNet: true}}} {
		if r.vhostNet(qemu.TCG) {
			t.Error("vhost-net without KVM")
		}
	}
}

func TestQueuesFollowProcessors(t *testing.T) {
	cfg := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "a", Namespace: "b", Uid: "c"}}
	for count, want := range map[string]int{"": 1, "1": 1, "3": 3, "64": netns.MaxQueues} {
		cfg.Annotations = map[string]string{}
		if count != "" {
			cfg.Annotations["VirtletVCPUCount"] = count
		}
		rec := &store.Sandbox{Config: store.Message[*runtimeapi.PodSandboxConfig]{M: cfg}}
		if got := networkPod(rec).Queues; got != want {
			t.Errorf("%q processors: %d queues, want %d", count, got, want)
		}
	}
}
