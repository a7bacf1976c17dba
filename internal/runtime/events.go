package runtime

import (
	"context"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

// Event is a change of a sandbox or a container.
type Event struct {
	// ID is the container's, or the sandbox's for an event of the sandbox.
	ID        string
	SandboxID string
	// Metadata is the pod's, which may be gone when its event is told.
	Metadata *runtimeapi.PodSandboxMetadata
	Type     runtimeapi.ContainerEventType
	Time     time.Time
}

// maxPending is how many events may wait for a consumer.
const maxPending = 1000

// events hands events to whoever listens. The zero value is ready.
type events struct {
	mu        sync.Mutex
	listeners map[chan Event]bool
}

// Events calls f for each change from now on, in their order, until ctx ends
// or f fails. A consumer that is a thousand events behind loses the oldest:
// events are hints, the lists are the truth. f must not change the runtime.
func (r *Runtime) Events(ctx context.Context, f func(Event) error) error {
	ch := r.events.listen()
	defer r.events.leave(ch)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.background.Done():
			return errUnavailable
		case e := <-ch:
			if err := f(e); err != nil {
				return err
			}
		}
	}
}

func (e *events) listen() chan Event {
	ch := make(chan Event, maxPending)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listeners == nil {
		e.listeners = map[chan Event]bool{}
	}
	e.listeners[ch] = true
	return ch
}

func (e *events) leave(ch chan Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.listeners, ch)
}

// tell never waits.
func (e *events) tell(p *pod, id string, what runtimeapi.ContainerEventType) {
	event := Event{ID: id, SandboxID: p.id, Metadata: p.config().GetMetadata(), Type: what, Time: time.Now()}
	e.mu.Lock()
	defer e.mu.Unlock()
	for ch := range e.listeners {
		for len(ch) == cap(ch) {
			select {
			case <-ch:
			default: // the consumer was faster
			}
		}
		ch <- event // there is room, and only this side fills it
	}
}

// The changes that CRI has events for.
var (
	containerEvents = map[store.ContainerPhase]runtimeapi.ContainerEventType{
		store.ContainerCreated: runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT,
		store.ContainerRunning: runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
		store.ContainerExited:  runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
	}
	sandboxEvents = map[store.SandboxPhase]runtimeapi.ContainerEventType{
		store.SandboxReady:   runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT,
		store.SandboxStopped: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT,
	}
)

// tellVM tells of a container's new phase. That a VM runs is told when it is
// let run, which its record says a moment before.
func (r *Runtime) tellVM(v *vm, from, to store.ContainerPhase) {
	if what, ok := containerEvents[to]; ok && from != to {
		r.events.tell(v.pod, v.id, what)
	}
}

func (r *Runtime) tellPod(p *pod, from, to store.SandboxPhase) {
	if from == to {
		return
	}
	if to == store.SandboxReady {
		r.events.tell(p, p.id, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	}
	if what, ok := sandboxEvents[to]; ok {
		r.events.tell(p, p.id, what)
	}
}
