package runtime

import (
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

// transitions are the phases that may follow each phase of a container.
var transitions = map[store.ContainerPhase][]store.ContainerPhase{
	store.ContainerCreating: {store.ContainerCreated, store.ContainerRemoving},
	store.ContainerCreated:  {store.ContainerStarting, store.ContainerExited, store.ContainerRemoving},
	store.ContainerStarting: {store.ContainerRunning, store.ContainerExited},
	store.ContainerRunning:  {store.ContainerStopping, store.ContainerExited},
	store.ContainerStopping: {store.ContainerStopping, store.ContainerExited},
	store.ContainerExited:   {store.ContainerRemoving},
	store.ContainerRemoving: {store.ContainerRemoving},
}

// PhaseError says that a container is not in a phase from which the wanted
// one can be reached. It is a failed precondition.
type PhaseError struct {
	ID       string
	From, To store.ContainerPhase
}

func (e *PhaseError) Error() string {
	return fmt.Sprintf("container %s is %s and cannot become %s", e.ID, e.From, e.To)
}

// Unwrap gives the error its class.
func (e *PhaseError) Unwrap() error { return errdefs.ErrFailedPrecondition }

func checkTransition(id string, from, to store.ContainerPhase) error {
	if slices.Contains(transitions[from], to) {
		return nil
	}
	return &PhaseError{ID: id, From: from, To: to}
}

// criState is what CRI calls a phase. A VM being started is not yet running,
// one being stopped still is.
func criState(p store.ContainerPhase) runtimeapi.ContainerState {
	switch p {
	case store.ContainerCreating, store.ContainerCreated, store.ContainerStarting:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case store.ContainerRunning, store.ContainerStopping:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	case store.ContainerExited, store.ContainerRemoving:
		return runtimeapi.ContainerState_CONTAINER_EXITED
	}
	return runtimeapi.ContainerState_CONTAINER_UNKNOWN
}
