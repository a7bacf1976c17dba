package runtime

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/netns"
)

// watchNetworks notices namespaces that are taken away from under ready pods.
func (r *Runtime) watchNetworks() {
	err := r.Network.Watch(r.background, func(name string) {
		for _, p := range r.allPods() {
			if p.record().NetnsName == name && p.record().Phase == store.SandboxReady {
				r.wg.Go(func() { r.lostNetwork(p, errors.New("its network namespace was removed")) })
			}
		}
	})
	if err != nil {
		r.Log.Error("network namespaces that vanish are not noticed", "error", err)
	}
}

// lostNetwork makes a ready sandbox NOTREADY. kubelet stops it then.
func (r *Runtime) lostNetwork(p *pod, cause error) {
	err := p.lock.acquire(r.background, "sandbox "+p.id)
	if err != nil {
		return // the daemon ends; the next one finds out
	}
	defer p.lock.release()
	if p.record().Phase != store.SandboxReady || !r.knowsPod(p) {
		return
	}
	r.podLog(p).Error("a pod has lost its network", "error", cause)
	r.tell(p, NoticeNetworkLost, "the pod has lost its network and has to be made anew: %v", cause)
	if err := r.loseNetwork(p); err != nil {
		r.podLog(p).Error("recording a lost network", "error", err)
	}
}

// checkNetworks looks, once after a start, whether the networks of ready pods
// still are what the plugins made. One that lacks a link is lost; of what else
// is wrong only people are told, since a guest may well do without.
func (r *Runtime) checkNetworks(ctx context.Context) {
	r.eachPod("checking a pod's network", func(p *pod) error {
		n := p.network()
		if n == nil || p.record().Phase != store.SandboxReady {
			return nil
		}
		err := r.Network.Check(ctx, n.Record())
		switch {
		case ctx.Err() != nil || p.record().Phase != store.SandboxReady:
			return nil // it was stopped meanwhile
		case errors.Is(err, netns.ErrGone):
			r.lostNetwork(p, err)
			return nil
		}
		if err != nil {
			r.tell(p, NoticeNetworkTrouble, "the network is not what the CNI plugins made: %v", err)
		}
		return err
	})
	if !r.CNIGC {
		return
	}
	if err := r.Network.GC(ctx); err != nil && ctx.Err() == nil && !errdefs.IsCanceled(err) {
		r.Log.Warn("CNI's garbage collection", "error", err)
	}
}
