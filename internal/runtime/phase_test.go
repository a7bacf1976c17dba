package runtime

import (
	"errors"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

var allPhases = []store.ContainerPhase{
	store.ContainerCreating, store.ContainerCreated, store.ContainerStarting, store.ContainerRunning,
	store.ContainerStopping, store.ContainerExited, store.ContainerRemoving,
}

func TestEveryPhaseHasItsTransitions(t *testing.T) {
	for _, from := range allPhases {
		if len(transitions[from]) == 0 {
			t.Errorf("nothing follows %s", from)
		}
		if criState(from) == runtimeapi.ContainerState_CONTAINER_UNKNOWN {
			t.Errorf("%s has no state in CRI", from)
		}
		for _, to := range allPhases {
			err := checkTransition("c", from, to)
			if allowed := slices.Contains(transitions[from], to); allowed != (err == nil) {
				t.Errorf("%s -> %s: %v", from, to, err)
			}
			var phase *PhaseError
			if err != nil && (!errdefs.IsFailedPrecondition(err) || !errors.As(err, &phase) || phase.From != from || phase.To != to) {
				t.Errorf("%s -> %s: %v is no PhaseError of the right class", from, to, err)
			}
		}
	}
	if criState("odd") != runtimeapi.ContainerState_CONTAINER_UNKNOWN {
		t.Error("an odd phase has a state")
	}
}

// Nothing that has ended may run again, and nothing that runs may be removed.
func TestForbiddenTransitions(t *testing.T) {
	for _, c := range [][2]store.ContainerPhase{
		{store.ContainerExited, store.ContainerStarting},
		{store.ContainerExited, store.ContainerRunning},
		{store.ContainerRunning, store.ContainerRemoving},
		{store.ContainerStopping, store.ContainerRunning},
		{store.ContainerStarting, store.ContainerRemoving},
		{store.ContainerRemoving, store.ContainerExited},
	} {
		if err := checkTransition("c", c[0], c[1]); err == nil {
			t.Errorf("%s -> %s is allowed", c[0], c[1])
		}
	}
}
