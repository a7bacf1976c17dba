package podrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/podrun/volumes"

	"github.com/qemulet/qemulet/internal/terminal"
)

// Options say how a manifest is run.
type Options struct {
	// LogDir is where pods' logs go, a directory for each pod.
	LogDir string
	// In and Out are the person's terminal, or not; Err takes what is said
	// about the pod.
	In  *os.File
	Out io.Writer
	Err io.Writer
	// Detach leaves the pod running when it has been started.
	Detach bool
	// Interrupted is closed when the pod is to end in good order.
	Interrupted <-chan struct{}
}

// ErrInterrupted is the error of a Run that was interrupted before its VM had
// been booted.
var ErrInterrupted = errors.New("interrupted")

// Run runs the manifest's pod. Unless it is to be detached it shows the
// console until the VM ends or the person wants it to end, and removes the
// pod. The result is the VM's exit code. The end of ctx ends the VM by force;
// the pod is removed even then.
func Run(ctx context.Context, c *Client, m *Manifest, o Options) (code int32, err error) {
	r := &runner{Client: c, Options: o, m: m}
	r.seat = &seat{in: o.In, out: o.Out, keys: terminal.NewKeyboard(o.In)}
	for _, note := range m.Notes {
		r.say("note: %s", note)
	}
	if policy := m.Pod.Spec.RestartPolicy; o.Detach && policy != "" && policy != corev1.RestartPolicyNever {
		r.say("note: spec.restartPolicy %s has no effect with --detach: nobody stays to boot the VM again", policy)
	}
	if err := r.refuseSecond(ctx); err != nil {
		return 0, err
	}
	if err := r.checkReady(ctx); err != nil {
		return 0, err
	}
	image, err := r.pull(ctx)
	if err != nil {
		return 0, err
	}
	if o.Detach {
		return 0, r.detached(ctx, image)
	}
	defer func() {
		ended, removeErr := r.remove(ctx)
		code, err = max(code, ended), errors.Join(err, removeErr)
	}()
	if err := r.start(ctx, image); err != nil {
		return 0, err
	}
	return r.foreground(ctx, image)
}

// runner is one Run under way.
type runner struct {
	*Client
	Options
	m      *Manifest
	seat   *seat
	saying sync.Mutex

	begun     bool   // there may be something to remove
	logDir    string // of this pod
	places    places
	claim     *volumes.Claim // nil when nothing needs to be announced
	made      *volumes.Made
	sandbox   string // id, "" before there is one
	container string // id of the current attempt, "" while there is none
	ended     bool   // the last attempt has ended, and that was said
	attempt   uint32
	podIP     string
}

// say tells the person something. Nobody calls it while the terminal is raw.
func (r *runner) say(format string, args ...any) {
	r.saying.Lock()
	defer r.saying.Unlock()
	fmt.Fprintf(r.Err, format+"\n", args...)
}

func (r *runner) name() string { return r.m.Pod.Name }

func (r *runner) interrupted() bool {
	select {
	case <-r.Interrupted:
		return true
	default:
		return false
	}
}

// refuseSecond keeps two pods with one name apart: people name pods, not ids.
func (r *runner) refuseSecond(ctx context.Context) error {
	pods, err := r.pods(ctx)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Metadata.Name == r.name() && p.Metadata.Namespace == r.m.Pod.Namespace {
			return fmt.Errorf("pod %s/%s exists already: `qemulet attach %[2]s` shows its console, `qemulet rm --force %[2]s` removes it",
				r.m.Pod.Namespace, r.name())
		}
	}
	return nil
}

// checkReady asks before anything is fetched whether VMs can be started at all.
func (r *runner) checkReady(ctx context.Context) error {
	resp, err := r.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		return r.RPCError("asking whether VMs can be started", err)
	}
	var errs []error
	for _, c := range resp.GetStatus().GetConditions() {
		switch {
		case !c.Status:
			errs = append(errs, fmt.Errorf("%s: %s", c.Reason, trimClass(c.Message)))
		case c.Message != "":
			r.say("note: %s", c.Message)
		}
	}
	return errors.Join(errs...)
}

// detached starts the pod and leaves it, or nothing.
func (r *runner) detached(ctx context.Context, image string) error {
	if err := r.start(ctx, image); err != nil {
		_, removeErr := r.remove(ctx)
		return errors.Join(err, removeErr)
	}
	r.say("pod %s runs in the background:", r.name())
	for _, line := range []struct{ command, does string }{
		{"attach", "shows its console"},
		{"logs", "shows what it has printed"},
		{"stop", "powers it off"},
		{"rm", "removes it"},
	} {
		r.say("  %-*s  %s", len("qemulet attach ")+len(r.name()), "qemulet "+line.command+" "+r.name(), line.does)
	}
	return nil
}

// start makes the sandbox and boots the VM. These calls are short, and what
// was half done would have to be found again: only ctx cuts them off, an
// interruption counts between them.
func (r *runner) start(ctx context.Context, image string) error {
	defer r.whileStarting()()
	cfg := r.m.sandboxConfig(r.LogDir)
	r.logDir, r.begun = cfg.LogDirectory, true
	if err := r.prepare(ctx); err != nil {
		return err
	}
	resp, err := r.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		return r.RPCError("making the pod's sandbox", err)
	}
	r.sandbox = resp.GetPodSandboxId()
	if err := r.claim.Release(); err != nil {
		return err
	}
	status, err := r.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: r.sandbox})
	if err != nil {
		return r.RPCError("asking for the pod's address", err)
	}
	r.podIP = status.GetStatus().GetNetwork().GetIp()
	if err := r.m.mountHosts(r.claim.Dir, r.podIP, r.made); err != nil {
		return fmt.Errorf("the pod's hosts file: %w", err)
	}
	r.say("pod %s/%s has the address %s", r.m.Pod.Namespace, r.name(), r.podIP)
	return r.boot(ctx, image)
}

// whileStarting answers an interruption that must wait for the start.
func (r *runner) whileStarting() (stop func()) {
	started, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-r.Interrupted:
			r.say("interrupted: ending as soon as what is under way is done; Ctrl-C again cuts it off")
		case <-started:
		}
	}()
	return func() { close(started); <-done }
}

// boot creates and starts the VM's next attempt.
func (r *runner) boot(ctx context.Context, image string) error {
	if r.interrupted() {
		return ErrInterrupted
	}
	cfg, err := r.m.containerConfig(r.attempt, image, r.podIP, r.made)
	if err != nil {
		return err
	}
	// kubelet makes the directories of logs.
	if err := os.MkdirAll(filepath.Dir(filepath.Join(r.logDir, cfg.LogPath)), 0o755); err != nil {
		return fmt.Errorf("the pod's log: %w", err)
	}
	created, err := r.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: r.sandbox, Config: cfg, SandboxConfig: r.m.sandboxConfig(r.LogDir),
	})
	if err != nil {
		return r.RPCError("making the VM's disks", err)
	}
	id := created.GetContainerId()
	r.attempt++
	if _, err := r.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		return r.RPCError("booting the VM", err)
	}
	r.container = id
	return nil
}
