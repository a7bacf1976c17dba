package podrun

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// removeLimit bounds the removal of a pod beyond its grace period.
const removeLimit = 2 * time.Minute

// remove powers the VM off, if it still runs, and removes the pod with its
// volumes and logs. The end of ctx does not keep it from that, only from waiting for the
// guest. The result is the exit code of a VM that was powered off.
func (r *runner) remove(ctx context.Context) (code int32, err error) {
	if !r.begun {
		return 0, nil
	}
	grace := time.Duration(r.m.gracePeriod()) * time.Second
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace+removeLimit)
	defer cancel()
	if r.container != "" && !r.ended {
		if code, err = r.powerOff(limited, ctx.Done(), grace); err != nil {
			return code, err
		}
	}
	ids, err := r.sandboxes(limited)
	if err != nil {
		return code, err
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, r.removePod(limited, id, ""))
	}
	if err := errors.Join(errs...); err != nil {
		return code, err // which still needs its volumes
	}
	return code, errors.Join(r.claim.Release(), r.removeVolumes(), removeLogs(r.logDir))
}

// removeVolumes removes what prepare has made, however far it came.
func (r *runner) removeVolumes() error {
	if r.claim == nil {
		return nil
	}
	return r.places.remove(string(r.m.Pod.UID))
}

// sandboxes lists the pod's sandboxes: also one that the daemon made without
// our getting to know its id.
func (r *runner) sandboxes(ctx context.Context) ([]string, error) {
	resp, err := r.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{
		LabelSelector: map[string]string{labelPodUID: string(r.m.Pod.UID)},
	}})
	if err != nil {
		return nil, r.RPCError("listing the pod's sandboxes", err)
	}
	var ids []string
	for _, s := range resp.Items {
		ids = append(ids, s.Id)
	}
	return ids, nil
}

// powerOff ends the VM, showing what it prints meanwhile, and by force when
// force is closed.
func (r *runner) powerOff(ctx context.Context, force <-chan struct{}, grace time.Duration) (int32, error) {
	r.say("powering %s off (at most %s); Ctrl-C again ends it by force", r.name(), grace)
	shown := r.show(ctx)
	defer shown()
	done := make(chan error, 1)
	go func() { done <- r.stopContainer(ctx, r.container, grace) }()
	var err error
	select {
	case err = <-done:
	case <-force:
		r.say("ending it by force")
		err = errors.Join(r.stopContainer(ctx, r.container, 0), <-done)
	}
	if err != nil {
		return 0, err
	}
	shown()
	return r.sayEnd(ctx, r.container, r.Err)
}

// show prints the console, without input, until the function it returns is
// called for the first time.
func (r *runner) show(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	out, done := newGate(r.Out), make(chan struct{})
	go func() {
		defer close(done)
		// What is not seen now is no harm: the log has it.
		_ = r.Console(ctx, r.container, nil, out)
	}()
	return func() {
		select {
		case <-done:
		case <-out.broken:
		case <-time.After(drainGrace):
		}
		cancel()
		out.close()
	}
}

// removePod stops and removes a sandbox, and its logs, which kubelet would.
func (c *Client) removePod(ctx context.Context, sandbox, logDir string) error {
	if _, err := c.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		return c.RPCError("stopping the pod's sandbox", err)
	}
	if _, err := c.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		return c.RPCError("removing the pod's sandbox", err)
	}
	return removeLogs(logDir)
}

// removeLogs removes a pod's directory, and the one of all pods when it was the last.
func removeLogs(dir string) error {
	if dir == "" {
		return nil
	}
	err := os.RemoveAll(dir)
	_ = os.Remove(filepath.Dir(dir)) // not empty: others have logs
	return err
}
