package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/kube"
	"github.com/qemulet/qemulet/internal/vmpod"
)

// sources are the objects that a pod's annotations name, as they are now. They
// may hold secrets, and are kept nowhere.
type sources struct {
	data vmpod.Data
	// unread says why an object could not be had.
	unread map[vmpod.Object]error
	// missing has such an error for each annotation that take met it at.
	missing []error
}

// readSources asks for the pod's objects, for all at the same time.
func (r *Runtime) readSources(ctx context.Context, p *vmpod.Pod) *sources {
	found := &sources{data: vmpod.Data{}, unread: map[vmpod.Object]error{}}
	pod := kube.Pod{Namespace: p.Namespace, Name: p.Name, UID: p.UID}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for o := range objects(p) {
		wg.Go(func() {
			data, err := r.Objects.Data(ctx, pod, kube.Kind(o.Kind), o.Name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				found.unread[o] = err
			} else {
				found.data[o] = data
			}
		})
	}
	wg.Wait()
	return found
}

// objects are those that annotations name, each once.
func objects(p *vmpod.Pod) map[vmpod.Object]bool {
	all := map[vmpod.Object]bool{}
	for _, ref := range p.Sources.Refs() {
		all[ref.Object] = true
	}
	return all
}

// take has the settings take over what the objects hold. It returns what of
// them has no effect, and all that is wrong with them.
func (s *sources) take(settings *vmpod.Settings) (notes []string, bad []vmpod.Problem) {
	for _, ref := range settings.Sources.Refs() {
		if err := s.unread[ref.Object]; err != nil {
			s.missing = append(s.missing, err)
			bad = append(bad, ref.Problem(err.Error()))
		}
	}
	with, notes, wrong := settings.WithData(s.data)
	*settings = with
	return notes, append(bad, wrong...)
}

// checkSources makes a check of a pod's settings that finds what is wrong with
// the objects they name. It fills found, for the error's class.
func (r *Runtime) checkSources(ctx context.Context, found *sources) func(*vmpod.Pod) []vmpod.Problem {
	return func(p *vmpod.Pod) []vmpod.Problem {
		*found = *r.readSources(ctx, p)
		settings := p.Settings
		_, bad := found.take(&settings)
		return bad
	}
}

// takeSources reads the objects anew and has the machine take them over.
func (r *Runtime) takeSources(ctx context.Context, spec *vmpod.VM) (notes []string, err error) {
	found := r.readSources(ctx, &spec.Pod)
	notes, bad := found.take(&spec.Settings)
	if len(bad) == 0 {
		return notes, nil
	}
	err = &vmpod.Error{Problems: bad}
	return nil, fmt.Errorf("%w: %w", err, found.class(err))
}

// class is that of an error about a pod: the pod's own fault, unless all that
// is wrong is that objects could not be had, which may be otherwise later.
func (s *sources) class(err error) error {
	var bad *vmpod.Error
	causes := errors.Join(s.missing...)
	switch {
	case !errors.As(err, &bad) || len(bad.Problems) > len(s.missing) || errdefs.IsInvalidArgument(causes):
		return errdefs.ErrInvalidArgument
	case errdefs.IsUnavailable(causes):
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrFailedPrecondition
}
