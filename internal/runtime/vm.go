package runtime

import (
	"errors"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
	"github.com/qemulet/qemulet/qmp"
)

// vm is a container as the daemon holds it. Whatever changes it holds the
// pod's lock; mu only guards the fields.
type vm struct {
	id  string
	pod *pod
	// agentLock is held while the guest agent is connected to.
	agentLock lock

	mu      sync.Mutex
	rec     *store.Container // replaced, never changed
	machine *qemu.Machine    // nil while no process is supervised
	console *consoles        // likewise
	guest   *qmp.Agent       // nil until it is needed
	// exited is closed when the end of the VM is recorded; nil before a start.
	exited chan struct{}
	// lost is true for a VM that is recorded as running and could not be
	// adopted: nobody would notice its end.
	lost bool
	// booted is how long the guest took to its first word on the console; 0
	// while that is not known.
	booted time.Duration

	// sampler asks the machine for numbers.
	sampler sampler
}

func newVM(p *pod, rec *store.Container) *vm {
	return &vm{id: rec.ID, pod: p, agentLock: newLock(), rec: rec}
}

func (v *vm) record() *store.Container {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rec
}

// running returns what supervises the VM, all nil when there is no process.
func (v *vm) running() (*qemu.Machine, *consoles, chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.machine, v.console, v.exited
}

func (v *vm) setRunning(m *qemu.Machine, c *consoles) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.machine, v.console, v.exited = m, c, make(chan struct{})
}

// clearRunning forgets the process and wakes those who wait for its end.
func (v *vm) clearRunning() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.machine, v.console = nil, nil
	v.closeAgent()
	if v.exited != nil {
		close(v.exited)
		v.exited = nil
	}
}

// guestAgent is the connection to the guest agent, nil for none. One that is
// lost is closed: QEMU lets nobody else in before.
func (v *vm) guestAgent() *qmp.Agent {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.guest != nil && v.guest.Lost() {
		v.closeAgent()
	}
	return v.guest
}

// setAgent keeps the connection to the agent in that machine's guest, unless
// the machine has ended in between.
func (v *vm) setAgent(m *qemu.Machine, a *qmp.Agent) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.machine != m {
		return false
	}
	v.closeAgent()
	v.guest = a
	return true
}

// closeAgent ends the connection to the guest agent. The caller holds mu.
func (v *vm) closeAgent() {
	if v.guest != nil {
		_ = v.guest.Close()
		v.guest = nil
	}
}

func (v *vm) setLost() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost = true
}

func (v *vm) isLost() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lost
}

func (v *vm) show(rec *store.Container) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rec = rec
}

// live tells whether there may be a process.
func (v *vm) live() bool {
	switch v.record().Phase {
	case store.ContainerStarting, store.ContainerRunning, store.ContainerStopping:
		return true
	}
	return false
}

// release lets go of the process without touching it.
func (v *vm) release() error {
	m, c, _ := v.running()
	v.mu.Lock()
	v.closeAgent()
	v.mu.Unlock()
	var errs []error
	if c != nil {
		errs = append(errs, c.release())
	}
	if m != nil {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// updateVM checks the transition, writes the changed record and then shows
// it. The caller holds the pod's lock.
func (r *Runtime) updateVM(v *vm, to store.ContainerPhase, change func(*store.Container)) error {
	rec := *v.record()
	if rec.Phase != to {
		if err := checkTransition(v.id, rec.Phase, to); err != nil {
			return err
		}
	}
	from := rec.Phase
	rec.Phase = to
	if change != nil {
		change(&rec)
	}
	if err := r.DB.PutContainer(&rec); err != nil {
		return err
	}
	v.show(&rec)
	r.Changed()
	r.tellVM(v, from, to)
	return nil
}

// endVM records the end of a VM. It is shown also when it cannot be written:
// the VM is dead all the same, and the next daemon will find that out again.
// The caller holds the pod's lock.
func (r *Runtime) endVM(v *vm, change func(*store.Container)) error {
	rec := *v.record()
	if err := checkTransition(v.id, rec.Phase, store.ContainerExited); err != nil {
		return err
	}
	from := rec.Phase
	rec.Phase = store.ContainerExited
	change(&rec)
	if rec.Finished.Before(rec.Started) {
		rec.Finished = rec.Started
	}
	rec.Process = nil
	err := r.DB.PutContainer(&rec)
	v.show(&rec)
	r.Changed()
	r.tellVM(v, from, rec.Phase)
	r.Observer.VMEnded(rec.Reason)
	r.tellEnd(v, &rec)
	return err
}

func (r *Runtime) addVM(v *vm) {
	defer r.Changed() // after the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vms[v.id] = v
}

// dropVM removes the record and then the container.
func (r *Runtime) dropVM(v *vm) error {
	if err := r.DB.DeleteContainer(v.id); err != nil {
		return err
	}
	defer r.Changed() // after the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.vms, v.id)
	if v.record().Phase != store.ContainerCreating {
		r.events.tell(v.pod, v.id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	}
	return nil
}

// knowsVM tells whether the container has not been removed.
func (r *Runtime) knowsVM(v *vm) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.vms[v.id] == v
}

// vmsOf returns the pod's containers, in any order.
func (r *Runtime) vmsOf(p *pod) []*vm {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var of []*vm
	for _, v := range r.vms {
		if v.pod == p {
			of = append(of, v)
		}
	}
	return of
}
