package podrun

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/kube"
)

// runFake runs the minimal pod, and checks that no log directory is left.
func runFake(t *testing.T, ctx context.Context, c *Client, o Options) (said string, code int32, err error) {
	t.Helper()
	var out bytes.Buffer
	o.LogDir, o.Out, o.Err = filepath.Join(t.TempDir(), "logs"), &bytes.Buffer{}, &out
	text := minimal + "  volumes: [{name: c, configMap: {name: c}}]\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: v}\n"
	text = strings.Replace(text, "cirros}", "cirros, volumeMounts: [{name: c, mountPath: /c}]}", 1)
	code, err = Run(ctx, c, read(t, text), o)
	if left := leftovers(t, c); len(left) > 0 && (err != nil || !o.Detach) {
		t.Errorf("left behind: %v", left)
	}
	if _, statErr := os.Stat(o.LogDir); statErr == nil && !o.Detach {
		t.Error("logs are left behind")
	}
	return out.String(), code, err
}

// leftovers are what was made for pods.
func leftovers(t *testing.T, c *Client) (left []string) {
	t.Helper()
	p, err := c.places(t.Context())
	if err != nil {
		return nil // the test has the daemon not answer
	}
	for _, pattern := range []string{string(p.objects) + "/*", string(p.volumes) + "/pods/*"} {
		found, _ := filepath.Glob(pattern)
		left = append(left, found...)
	}
	return left
}

func TestRunUntilTheGuestPowersOff(t *testing.T) {
	f, c := newFake(t)
	f.before["Attach"] = func() { f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_EXITED) }
	said, code, err := runFake(t, t.Context(), c, Options{})
	if code != 0 || err != nil || !strings.Contains(said, "the guest powered off (Completed, exit code 0)\n") || strings.Contains(said, "\r") {
		t.Errorf("%q, %d, %v", said, code, err)
	}
	if got := f.changes(); got != "RunPodSandbox CreateContainer StartContainer StopPodSandbox RemovePodSandbox" {
		t.Errorf("calls: %s", got)
	}
}

// Whatever fails, what was made by then is removed.
func TestFailedStartIsUndone(t *testing.T) {
	for call, want := range map[string]string{
		"Status":           "",
		"ImageStatus":      "",
		"RunPodSandbox":    "RunPodSandbox",
		"PodSandboxStatus": "RunPodSandbox StopPodSandbox RemovePodSandbox",
		"CreateContainer":  "RunPodSandbox CreateContainer StopPodSandbox RemovePodSandbox",
		"StartContainer":   "RunPodSandbox CreateContainer StartContainer StopPodSandbox RemovePodSandbox",
	} {
		for _, detach := range []bool{false, true} {
			f, c := newFake(t)
			f.fail[call] = status.Error(codes.InvalidArgument, "it is wrong: invalid argument")
			_, _, err := runFake(t, t.Context(), c, Options{Detach: detach})
			if err == nil || !strings.HasSuffix(err.Error(), ": it is wrong") {
				t.Errorf("%s: %v", call, err)
			}
			if got := f.changes(); got != want {
				t.Errorf("%s: calls %s, want %s", call, got, want)
			}
		}
	}
}

// What a command that was killed has left is removed by the next.
func TestSweep(t *testing.T) {
	f, c := newFake(t)
	p, err := c.places(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.addPod("default", "lives", "716d6c740002")
	f.sandboxes[0].Metadata.Uid = "lives"
	for _, uid := range []string{"lives", "killed"} {
		claim, err := p.volumes.Claim(uid)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Mkdir(claim.Dir, 0o700), p.objects.Put(kube.Pod{Namespace: "default", Name: uid, UID: uid}), claim.Release()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.sweep(t.Context(), p); err != nil {
		t.Error(err)
	}
	for _, name := range leftovers(t, c) {
		if !strings.Contains(name, "lives") {
			t.Errorf("left behind: %s", name)
		}
	}
	if left := leftovers(t, c); len(left) != 3 {
		t.Errorf("of the pod that lives remain %v", left)
	}
}

// A volume that cannot be made is said before there is a sandbox.
func TestVolumesFailEarly(t *testing.T) {
	f, c := newFake(t)
	var out bytes.Buffer
	text := strings.Replace(minimal, "cirros}", "cirros, volumeMounts: [{name: h, mountPath: /h}]}", 1) + "  volumes: [{name: h, hostPath: {path: /none/such}}]\n"
	_, err := Run(t.Context(), c, read(t, text), Options{LogDir: t.TempDir(), Out: &out, Err: &out})
	if err == nil || !strings.Contains(err.Error(), `volume h: hostPath "/none/such" is not on this machine`) || f.changes() != "" {
		t.Errorf("%v, calls: %s", err, f.changes())
	}
	if left := leftovers(t, c); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// An interruption during the start counts when what is under way is done.
func TestInterruptedStart(t *testing.T) {
	f, c := newFake(t)
	interrupted := make(chan struct{})
	f.before["RunPodSandbox"] = func() { close(interrupted) }
	_, _, err := runFake(t, t.Context(), c, Options{Interrupted: interrupted})
	if !errors.Is(err, ErrInterrupted) {
		t.Errorf("%v", err)
	}
	if got := f.changes(); got != "RunPodSandbox StopPodSandbox RemovePodSandbox" {
		t.Errorf("calls: %s", got)
	}
}

// The end of the context cuts a start off, and a sandbox whose id was never
// told is found and removed.
func TestCutOffStart(t *testing.T) {
	f, c := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.made = func(ctx context.Context) { cancel(); <-ctx.Done() }
	_, _, err := runFake(t, ctx, c, Options{})
	if !errors.Is(err, ErrInterrupted) || !strings.Contains(f.changes(), "StopPodSandbox RemovePodSandbox") {
		t.Errorf("%v, calls: %s", err, f.changes())
	}
}

func TestInterruptedRun(t *testing.T) {
	f, c := newFake(t)
	interrupted := make(chan struct{})
	f.before["Attach"] = func() {
		select {
		case <-interrupted:
		default:
			close(interrupted)
		}
	}
	said, code, err := runFake(t, t.Context(), c, Options{Interrupted: interrupted})
	if code != 0 || err != nil || f.grace != defaultGracePeriod || !strings.Contains(said, "powering web off (at most 30s)") {
		t.Errorf("%q, %d, %v, grace %d", said, code, err, f.grace)
	}
}

func TestNotReadyIsSaidBeforeAnythingIsFetched(t *testing.T) {
	f, c := newFake(t)
	f.conditions = []*runtimeapi.RuntimeCondition{
		{Type: "RuntimeReady", Reason: "QEMUNotUsable", Message: "no QEMU: unavailable"},
		{Type: "NetworkReady", Status: true, Message: "slow today"},
	}
	said, _, err := runFake(t, t.Context(), c, Options{})
	if err == nil || err.Error() != "QEMUNotUsable: no QEMU" || !strings.Contains(said, "note: slow today\n") {
		t.Errorf("%q, %v", said, err)
	}
	for _, call := range f.calls {
		if call == "ImageStatus" || call == "PullImage" {
			t.Errorf("the image is looked at: %v", f.calls)
		}
	}
}

func TestSecondPodOfANameIsRefused(t *testing.T) {
	f, c := newFake(t)
	f.addPod("default", "web", "716d6c740001")
	_, _, err := runFake(t, t.Context(), c, Options{})
	if err == nil || !strings.Contains(err.Error(), "pod default/web exists already") || f.changes() != "" {
		t.Errorf("%v, calls: %s", err, f.changes())
	}
}

func TestWaitForEnd(t *testing.T) {
	f, c := newFake(t)
	if err := c.waitForEnd(t.Context(), "gone", 0); !errors.Is(err, errRemoved) {
		t.Errorf("a removed VM: %v", err)
	}
	f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_RUNNING)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(2*pollInterval, cancel)
	if err := c.waitForEnd(ctx, "vm", 0); err != nil {
		t.Errorf("the end of the context: %v", err)
	}
	f.mu.Lock()
	f.fail["ContainerStatus"] = status.Error(codes.Unavailable, "away")
	f.mu.Unlock()
	if err := c.waitForEnd(t.Context(), "vm", pollInterval); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("a daemon that is away too long: %v", err)
	}
	time.AfterFunc(2*pollInterval, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.fail, "ContainerStatus")
		f.containers["vm"].State = runtimeapi.ContainerState_CONTAINER_EXITED
	})
	if err := c.waitForEnd(t.Context(), "vm", ownersPatience); err != nil {
		t.Errorf("a daemon that comes back: %v", err)
	}
}

func TestBootDelays(t *testing.T) {
	d := bootDelays{}
	var got []time.Duration
	for range 9 {
		got = append(got, d.after(time.Second)/time.Second)
	}
	want := []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("delays %v, want %v", got, want)
		}
	}
	if d := d.after(time.Hour); d != 0 {
		t.Errorf("after a long life it waits %v", d)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("nobody reads") }

func TestGate(t *testing.T) {
	var out bytes.Buffer
	g := newGate(&out)
	_, _ = g.Write([]byte("seen"))
	g.close()
	if _, err := g.Write([]byte("late")); err == nil || out.String() != "seen" {
		t.Errorf("%v, %q", err, out.String())
	}
	g = newGate(brokenWriter{})
	_, _ = g.Write([]byte("x"))
	_, _ = g.Write([]byte("x"))
	<-g.broken
}
