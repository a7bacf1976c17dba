package daemon

import (
	"os"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/runtime"
	"github.com/qemulet/qemulet/internal/store"
)

func sandbox(id, namespace, name string, age time.Duration) runtime.Sandbox {
	return runtime.Sandbox{
		ID: id, CreatedAt: time.Unix(1000, 0).Add(-age),
		Config: &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Namespace: namespace, Name: name}},
	}
}

func TestNewestSandboxOfEachPod(t *testing.T) {
	got := newest([]runtime.Sandbox{
		sandbox("old", "a", "x", time.Hour), sandbox("other", "b", "x", 2*time.Hour), sandbox("new", "a", "x", time.Minute), sandbox("first", "a", "w", 0),
	})
	var ids []string
	for _, s := range got {
		ids = append(ids, s.ID)
	}
	if len(ids) != 3 || ids[0] != "first" || ids[1] != "new" || ids[2] != "other" {
		t.Errorf("got %q", ids)
	}
}

func TestStateOf(t *testing.T) {
	container := &runtime.Container{State: runtimeapi.ContainerState_CONTAINER_RUNNING}
	for _, test := range []struct {
		look runtime.Look
		want api.State
	}{
		{runtime.Look{}, api.StateNone},
		{runtime.Look{Container: container, Phase: store.ContainerStarting}, api.StateStarting},
		{runtime.Look{Container: container, Phase: store.ContainerStopping, RunState: "running"}, api.StateStopping},
		{runtime.Look{Container: container, Phase: store.ContainerRunning, RunState: "running"}, api.StateRunning},
		{runtime.Look{Container: container, Phase: store.ContainerRunning, RunState: runtime.Suspended}, api.StateSuspended},
		{runtime.Look{Container: container, Phase: store.ContainerRunning, RunState: "io-error"}, "io-error"},
		{runtime.Look{Container: container, Phase: store.ContainerRunning}, api.StateUnresponsive},
		{runtime.Look{Container: &runtime.Container{State: runtimeapi.ContainerState_CONTAINER_UNKNOWN}, Phase: store.ContainerRunning}, api.StateUnknown},
		{runtime.Look{Container: container, Phase: store.ContainerRemoving}, api.StateExited},
	} {
		if got := stateOf(test.look); got != test.want {
			t.Errorf("%+v: %q", test.look, got)
		}
	}
}

func TestDeviceID(t *testing.T) {
	for qdev, want := range map[string]string{"/machine/peripheral/root/virtio-backend": "root", "/machine/peripheral/seed": "seed", "root": "root", "": ""} {
		if got := deviceID(qdev); got != want {
			t.Errorf("%q: %q", qdev, got)
		}
	}
}

func TestThreadTime(t *testing.T) {
	if threadTime(os.Getpid()) == 0 {
		t.Error("this process has used nothing")
	}
	if threadTime(-1) != 0 {
		t.Error("no thread has used something")
	}
}
