package podrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
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
	// Interrupted ends the pod gracefully when something arrives, and by
	// force the second time.
	Interrupted <-chan os.Signal
}

// removeLimit bounds the removal of a pod beyond its grace period.
const removeLimit = 2 * time.Minute

// Run runs the manifest's pod. Unless it is to be detached it shows the
// console until the VM ends or the person wants it to end, and removes the
// pod. The result is the VM's exit code.
func Run(ctx context.Context, c *Client, m *Manifest, o Options) (code int32, err error) {
	r := &runner{Client: c, Options: o, m: m, keys: newKeyboard(o.In)}
	m.complete()
	for _, note := range m.Notes {
		r.say("note: %s", note)
	}
	if err := r.refuseSecond(ctx); err != nil {
		return 0, err
	}
	image, err := r.pull(ctx)
	if err != nil {
		return 0, err
	}
	if !o.Detach {
		defer func() { err = errors.Join(err, r.remove()) }()
	}
	if err := r.start(ctx, image); err != nil {
		if o.Detach {
			err = errors.Join(err, r.remove())
		}
		return 0, err
	}
	if o.Detach {
		r.sayDetached()
		return 0, nil
	}
	return r.foreground(ctx, image)
}

type runner struct {
	*Client
	Options
	m    *Manifest
	keys *keyboard

	logDir    string // of this pod
	sandbox   string // id, "" before there is one
	container string // id of the current attempt
	attempt   uint32
	podIP     string
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.Err, format+"\r\n", args...)
}

func (r *runner) name() string { return r.m.Pod.Name }

// refuseSecond keeps two pods with one name apart: people name pods, not ids.
func (r *runner) refuseSecond(ctx context.Context) error {
	pods, err := r.pods(ctx)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Metadata.Name == r.name() && p.Metadata.Namespace == r.m.Pod.Namespace {
			return fmt.Errorf("pod %s/%s exists already; `qemulet attach %s` shows it, `qemulet rm %s` removes it",
				r.m.Pod.Namespace, r.name(), r.name(), r.name())
		}
	}
	return nil
}

// start makes the sandbox and boots the VM.
func (r *runner) start(ctx context.Context, image string) error {
	cfg := r.m.sandboxConfig(r.LogDir)
	r.logDir = cfg.LogDirectory
	resp, err := r.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		return rpcError("making the pod's sandbox", err)
	}
	r.sandbox = resp.GetPodSandboxId()
	status, err := r.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: r.sandbox})
	if err != nil {
		return rpcError("asking for the pod's address", err)
	}
	r.podIP = status.GetStatus().GetNetwork().GetIp()
	r.say("pod %s/%s has the address %s", r.m.Pod.Namespace, r.name(), r.podIP)
	return r.boot(ctx, image)
}

// boot creates and starts the VM's next attempt.
func (r *runner) boot(ctx context.Context, image string) error {
	cfg, err := r.m.containerConfig(r.attempt, image, r.podIP)
	if err != nil {
		return err
	}
	// kubelet makes the directories of logs.
	if err := os.MkdirAll(filepath.Dir(filepath.Join(r.logDir, cfg.LogPath)), 0o755); err != nil {
		return err
	}
	created, err := r.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: r.sandbox, Config: cfg, SandboxConfig: r.m.sandboxConfig(r.LogDir),
	})
	if err != nil {
		return rpcError("making the VM's disks", err)
	}
	r.container = created.GetContainerId()
	r.attempt++
	if _, err := r.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: r.container}); err != nil {
		return rpcError("booting the VM", err)
	}
	return nil
}

// foreground shows the console, boots again what the restart policy wants,
// and returns the last exit code.
func (r *runner) foreground(ctx context.Context, image string) (int32, error) {
	for {
		interrupted, err := r.session(ctx)
		if err != nil || interrupted {
			return 0, err
		}
		status, err := r.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: r.container})
		if err != nil {
			return 0, rpcError("asking how the VM ended", err)
		}
		s := status.GetStatus()
		r.say("the VM ended: %s (%s, exit code %d)", s.GetMessage(), s.GetReason(), s.GetExitCode())
		if !r.restarts(s.GetExitCode()) {
			return s.GetExitCode(), nil
		}
		r.say("restartPolicy %s: it boots again", r.m.Pod.Spec.RestartPolicy)
		if err := r.boot(ctx, image); err != nil {
			return 0, err
		}
	}
}

// restarts tells whether the restart policy wants another attempt. A manifest
// without one does not: a person who powers a VM off wants the shell back.
func (r *runner) restarts(code int32) bool {
	switch r.m.Pod.Spec.RestartPolicy {
	case corev1.RestartPolicyAlways:
		return true
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return false
}

func (r *runner) sayDetached() {
	r.say("pod %s runs in the background:", r.name())
	r.say("  qemulet attach %s    shows its console", r.name())
	r.say("  qemulet logs %s      shows what it has printed", r.name())
	r.say("  qemulet stop %s      powers it off", r.name())
	r.say("  qemulet rm %s        removes it", r.name())
}

// remove stops and removes the pod, and its logs. A second interruption does
// not wait for the guest to power off.
func (r *runner) remove() error {
	if r.sandbox == "" {
		return nil
	}
	grace := time.Duration(r.m.gracePeriod()) * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), grace+removeLimit)
	defer cancel()
	if err := r.stop(ctx, grace); err != nil {
		return err
	}
	return r.removePod(ctx, r.sandbox, r.logDir)
}

func (r *runner) stop(ctx context.Context, grace time.Duration) error {
	if r.container == "" {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- r.stopContainer(ctx, r.container, grace) }()
	select {
	case err := <-done:
		return err
	case <-r.Interrupted:
		r.say("ending it by force")
		return errors.Join(r.stopContainer(ctx, r.container, 0), <-done)
	}
}
