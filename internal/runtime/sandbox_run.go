package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/netns"
)

// handlers are the RuntimeClass handlers that are ours; "" is the default.
var handlers = []string{"", "qemulet", "virtlet"}

// RunSandbox makes the pod's network and returns the id of a ready sandbox.
// The same request again gives the same sandbox; another one with the same
// name, namespace, uid and attempt is errdefs.ErrAlreadyExists. On an error
// nothing is left, or a stopped sandbox that can be removed when the network
// could not be undone.
func (r *Runtime) RunSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	if err := checkHandler(handler); err != nil {
		return "", err
	}
	var found sources
	if _, err := vmpod.ParseSandbox(cfg, r.checkCPU(ctx), r.checkSources(ctx, &found)); err != nil {
		return "", fmt.Errorf("%w: %w", err, found.class(err))
	}
	if _, err := dnsServers(cfg); err != nil {
		return "", err
	}
	return r.ops.join(ctx, "run sandbox "+sandboxName(cfg), sandboxLimit, func(ctx context.Context) (id string, err error) {
		err = r.phase(ctx, PhaseSandbox, func(ctx context.Context) (err error) {
			id, err = r.runSandbox(ctx, cfg, handler)
			return err
		})
		return id, err
	})
}

// Handlers returns the RuntimeClass handlers that RunSandbox accepts.
func (r *Runtime) Handlers() []string { return slices.Clone(handlers) }

func checkHandler(handler string) error {
	if slices.Contains(handlers, handler) {
		return nil
	}
	return fmt.Errorf("runtime handler %q is not one of %q: %w", handler, handlers, errdefs.ErrInvalidArgument)
}

// sandboxName is the metadata that must be unique.
func sandboxName(cfg *runtimeapi.PodSandboxConfig) string {
	m := cfg.GetMetadata()
	return fmt.Sprintf("%s/%s (uid %s, attempt %d)", m.GetNamespace(), m.GetName(), m.GetUid(), m.GetAttempt())
}

func (r *Runtime) runSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	if id, err := r.sameSandbox(ctx, cfg, handler); id != "" || err != nil {
		return id, err
	}
	if _, err := r.Hypervisor.Ready(ctx); err != nil {
		return "", err
	}
	p, err := r.intendSandbox(cfg, handler)
	if err != nil {
		return "", err
	}
	// gofail: var sandboxIntended struct{}
	if err := r.connectSandbox(ctx, p); err != nil {
		ctx, cancel := undo(ctx)
		defer cancel()
		return "", errors.Join(err, r.giveUpSandbox(ctx, p))
	}
	return p.id, nil
}

// sameSandbox finds what an earlier request with this metadata has made.
func (r *Runtime) sameSandbox(ctx context.Context, cfg *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	for _, p := range r.allPods() {
		rec := p.record()
		if sandboxName(rec.Config.M) != sandboxName(cfg) {
			continue
		}
		if rec.Phase == store.SandboxCreating {
			// One request runs at a time: this is what an earlier one failed to undo.
			if err := r.giveUpSandbox(ctx, p); err != nil {
				return "", err
			}
			continue
		}
		if rec.Phase == store.SandboxReady && rec.Handler == handler && proto.Equal(rec.Config.M, cfg) {
			return p.id, nil
		}
		return "", fmt.Errorf("sandbox of pod %s exists already, it is %s and has the id %s: %w",
			sandboxName(cfg), rec.Phase, p.id, errdefs.ErrAlreadyExists)
	}
	return "", nil
}

func (r *Runtime) intendSandbox(cfg *runtimeapi.PodSandboxConfig, handler string) (*pod, error) {
	id := ids.New()
	rec := &store.Sandbox{
		ID:        id,
		Phase:     store.SandboxCreating,
		Config:    store.Message[*runtimeapi.PodSandboxConfig]{M: cfg},
		Handler:   handler,
		Created:   time.Now(),
		NetnsName: "qemulet-" + ids.Short(id),
		Base:      r.baseOf(cfg.GetMetadata().GetUid()),
	}
	if err := r.DB.PutSandbox(rec); err != nil {
		return nil, err
	}
	p := newPod(rec)
	r.dirs.Lock()
	defer r.dirs.Unlock()
	r.addPod(p)
	return p, nil
}

// baseOf finds the image below the root disk of an earlier sandbox of the pod.
func (r *Runtime) baseOf(uid string) string {
	for _, p := range r.allPods() {
		if rec := p.record(); rec.Base != "" && p.uid() == uid {
			return rec.Base
		}
	}
	return ""
}

func (r *Runtime) connectSandbox(ctx context.Context, p *pod) error {
	if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
		return err
	}
	defer p.lock.release()
	pod := networkPod(p.record())
	pod.KeepMACs = r.keepMACs(p)
	var n *netns.Network
	err := r.phase(ctx, PhaseCNIAdd, func(ctx context.Context) (err error) {
		n, err = r.Network.Setup(ctx, pod)
		return err
	})
	if err != nil {
		return fmt.Errorf("network of pod %s: %w", sandboxName(p.config()), err)
	}
	if err := checkNICs(n); err != nil {
		return errors.Join(fmt.Errorf("network of pod %s: %w", sandboxName(p.config()), err), n.Close())
	}
	// gofail: var sandboxConnected struct{}
	raw, err := json.Marshal(n.Record())
	if err == nil {
		err = r.updatePod(p, func(s *store.Sandbox) {
			s.Phase, s.Network, s.IPs, s.MACs = store.SandboxReady, raw, n.IPs(), macsOf(n)
		})
	}
	if err != nil {
		return errors.Join(err, n.Close())
	}
	p.setNetwork(n)
	r.warnUnclaimed(p, n)
	// gofail: var sandboxReady struct{}
	return nil
}

// giveUpSandbox undoes a sandbox that did not become ready. If that fails
// too, the sandbox stays as a stopped one, so that its removal is tried again.
func (r *Runtime) giveUpSandbox(ctx context.Context, p *pod) error {
	if err := p.lock.acquire(ctx, "sandbox "+p.id); err != nil {
		return err
	}
	defer p.lock.release()
	if !r.knowsPod(p) {
		return nil // another clean-up was faster
	}
	if err := r.teardown(ctx, p); err != nil {
		return errors.Join(err, r.updatePod(p, func(s *store.Sandbox) { s.Phase = store.SandboxStopping }))
	}
	return r.dropPod(p)
}
