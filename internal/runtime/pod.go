package runtime

import (
	"sync"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
)

// pod is a sandbox as the daemon holds it. The lock serialises what changes
// the pod or its VMs; mu only guards the fields, so that reading never waits.
type pod struct {
	id   string
	lock lock

	mu  sync.Mutex
	rec *store.Sandbox // replaced, never changed
	net *netns.Network // nil while the pod has no network
}

func newPod(rec *store.Sandbox) *pod { return &pod{id: rec.ID, lock: newLock(), rec: rec} }

func (p *pod) record() *store.Sandbox {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rec
}

func (p *pod) config() *runtimeapi.PodSandboxConfig { return p.record().Config.M }

func (p *pod) uid() string { return p.config().GetMetadata().GetUid() }

func (p *pod) network() *netns.Network {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.net
}

func (p *pod) setNetwork(n *netns.Network) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.net = n
}

// release lets go of the network without touching it.
func (p *pod) release() error {
	n := p.network()
	if n == nil {
		return nil
	}
	p.setNetwork(nil)
	return n.Close()
}

// updatePod writes a changed record and then shows it. The caller holds the
// pod's lock.
func (r *Runtime) updatePod(p *pod, change func(*store.Sandbox)) error {
	rec := *p.record()
	change(&rec)
	if err := r.DB.PutSandbox(&rec); err != nil {
		return err
	}
	p.mu.Lock()
	from := p.rec.Phase
	p.rec = &rec
	p.mu.Unlock()
	r.Changed()
	r.tellPod(p, from, rec.Phase)
	return nil
}

func (r *Runtime) addPod(p *pod) {
	defer r.Changed() // after the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[p.id] = p
}

// knowsPod tells whether the sandbox has not been removed.
func (r *Runtime) knowsPod(p *pod) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pods[p.id] == p
}

// dropPod removes the record and then the sandbox.
func (r *Runtime) dropPod(p *pod) error {
	if err := r.DB.DeleteSandbox(p.id); err != nil {
		return err
	}
	defer r.Changed() // after the lock
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pods, p.id)
	if p.record().Phase != store.SandboxCreating {
		r.events.tell(p, p.id, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	}
	return nil
}
