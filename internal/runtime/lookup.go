package runtime

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
)

// find returns the object whose id is key or, when only one begins with it,
// that one.
func find[T any](kind string, all map[string]T, key string) (T, error) {
	if found, ok := all[key]; ok {
		return found, nil
	}
	var match T
	var matches []string
	for id, object := range all {
		if key != "" && strings.HasPrefix(id, key) {
			match, matches = object, append(matches, id)
		}
	}
	var none T
	switch len(matches) {
	case 0:
		return none, fmt.Errorf("%s %q: %w", kind, key, errdefs.ErrNotFound)
	case 1:
		return match, nil
	}
	return none, fmt.Errorf("%s %q is the beginning of %d ids, give more digits: %w", kind, key, len(matches), errdefs.ErrInvalidArgument)
}

func (r *Runtime) pod(id string) (*pod, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return find("sandbox", r.pods, id)
}

func (r *Runtime) vm(id string) (*vm, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return find("container", r.vms, id)
}

// Sandbox returns a snapshot. The id may be a unique beginning of one;
// errdefs.ErrNotFound when there is none.
func (r *Runtime) Sandbox(id string) (Sandbox, error) {
	p, err := r.pod(id)
	if err != nil {
		return Sandbox{}, err
	}
	return r.sandboxOf(p), nil
}

// Sandboxes returns snapshots of all sandboxes, in any order.
func (r *Runtime) Sandboxes() []Sandbox {
	var all []Sandbox
	for _, p := range r.allPods() {
		// Until it is ready nobody has been told of it.
		if p.record().Phase != store.SandboxCreating {
			all = append(all, r.sandboxOf(p))
		}
	}
	return all
}

func (r *Runtime) sandboxOf(p *pod) Sandbox {
	rec := p.record()
	return Sandbox{
		ID:        rec.ID,
		Config:    rec.Config.M,
		Handler:   rec.Handler,
		Ready:     rec.Phase == store.SandboxReady,
		CreatedAt: rec.Created,
		IPs:       rec.IPs,
		NetnsPath: filepath.Join(r.NetnsDir, rec.NetnsName),
	}
}

// Container returns a snapshot, found as Sandbox does.
func (r *Runtime) Container(id string) (Container, error) {
	v, err := r.vm(id)
	if err != nil {
		return Container{}, err
	}
	return r.containerOf(v), nil
}

// Containers returns snapshots of all containers, in any order.
func (r *Runtime) Containers() []Container {
	var all []Container
	for _, v := range r.allVMs() {
		if v.record().Phase != store.ContainerCreating {
			all = append(all, r.containerOf(v))
		}
	}
	return all
}

func (r *Runtime) containerOf(v *vm) Container {
	rec := v.record()
	c := Container{
		ID:         rec.ID,
		SandboxID:  rec.SandboxID,
		Config:     rec.Config.M,
		State:      criState(rec.Phase),
		CreatedAt:  rec.Created,
		StartedAt:  rec.Started,
		FinishedAt: rec.Finished,
		ExitCode:   rec.ExitCode,
		Reason:     rec.Reason,
		Message:    rec.Message,
		ImageID:    rec.ImageID,
		LogPath:    logPath(v.pod.config(), rec.Config.M),
		Resources:  rec.Config.M.GetLinux().GetResources(),
	}
	if v.isLost() && v.live() {
		c.State = runtimeapi.ContainerState_CONTAINER_UNKNOWN
	}
	if rec.Resources != nil {
		c.Resources = rec.Resources.M
	}
	return c
}
