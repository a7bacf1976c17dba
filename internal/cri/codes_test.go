package cri_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/cri"
	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/images"
)

// calls are all calls that name an object.
func (h *harness) calls(id string) map[string]func() error {
	return map[string]func() error{
		"StopPodSandbox": func() error {
			_, err := h.StopPodSandbox(h.ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id})
			return err
		},
		"RemovePodSandbox": func() error {
			_, err := h.RemovePodSandbox(h.ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id})
			return err
		},
		"StopContainer": func() error {
			_, err := h.StopContainer(h.ctx, &runtimeapi.StopContainerRequest{ContainerId: id})
			return err
		},
		"RemoveContainer": func() error {
			_, err := h.RemoveContainer(h.ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id})
			return err
		},
		"PodSandboxStatus": func() error {
			_, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
			return err
		},
		"ContainerStatus": func() error {
			_, err := h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
			return err
		},
		"StartContainer": func() error {
			_, err := h.StartContainer(h.ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
			return err
		},
		"ReopenContainerLog": func() error {
			_, err := h.ReopenContainerLog(h.ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
			return err
		},
		"Attach": func() error {
			_, err := h.Attach(h.ctx, &runtimeapi.AttachRequest{ContainerId: id, Stdout: true})
			return err
		},
		"PortForward": func() error {
			_, err := h.PortForward(h.ctx, &runtimeapi.PortForwardRequest{PodSandboxId: id})
			return err
		},
		"ExecSync": func() error {
			_, err := h.ExecSync(h.ctx, &runtimeapi.ExecSyncRequest{ContainerId: id})
			return err
		},
	}
}

func TestUnknownID(t *testing.T) {
	h := newHarness(t)
	for name, call := range h.calls(strings.Repeat("a", 64)) {
		t.Run(name, func(t *testing.T) {
			want := codes.NotFound
			if strings.HasPrefix(name, "Stop") || strings.HasPrefix(name, "Remove") {
				want = codes.OK
			}
			wantCode(t, call(), want)
		})
	}
}

func TestMissingID(t *testing.T) {
	h := newHarness(t)
	for name, call := range h.calls("") {
		t.Run(name, func(t *testing.T) { wantCode(t, call(), codes.InvalidArgument, "missing") })
	}
}

func TestRepeatedStopAndRemove(t *testing.T) {
	h := newHarness(t)
	pod := h.sandbox(t, "a")
	id := h.container(t, pod, "vm")
	h.start(t, id)
	for range 2 {
		wantCode(t, h.calls(id)["StopContainer"](), codes.OK)
	}
	for range 2 {
		wantCode(t, h.calls(id)["RemoveContainer"](), codes.OK)
	}
	for range 2 {
		wantCode(t, h.calls(pod)["StopPodSandbox"](), codes.OK)
	}
	for range 2 {
		wantCode(t, h.calls(pod)["RemovePodSandbox"](), codes.OK)
	}
}

func TestErrorClasses(t *testing.T) {
	h := newHarness(t)
	var failure error
	h.runtime.Before = func(context.Context, string) error { return failure }
	for want, err := range map[codes.Code]error{
		codes.InvalidArgument:    errdefs.ErrInvalidArgument,
		codes.NotFound:           errdefs.ErrNotFound,
		codes.AlreadyExists:      errdefs.ErrAlreadyExists,
		codes.FailedPrecondition: errdefs.ErrFailedPrecondition,
		codes.Unavailable:        errdefs.ErrUnavailable,
		codes.Unimplemented:      errdefs.ErrNotImplemented,
		codes.DeadlineExceeded:   context.DeadlineExceeded,
		codes.Canceled:           context.Canceled,
		codes.ResourceExhausted:  syscall.ENOSPC,
		codes.DataLoss:           status.Error(codes.DataLoss, "from below"),
		codes.Unknown:            errors.New("no class"),
	} {
		failure = fmt.Errorf("overlay of pod a: %w", errors.Join(errors.New("something plain"), err))
		if want == codes.DataLoss {
			failure = err
		}
		_, got := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: sandboxConfig("a")})
		wantCode(t, got, want)
		text := strings.ReplaceAll(failure.Error(), "\n", " | ")
		if want != codes.DataLoss && status.Convert(got).Message() != text {
			t.Errorf("text is %q, want %q", status.Convert(got).Message(), text)
		}
	}
}

// Events show one line, and the code in front of it says the class.
func TestErrorText(t *testing.T) {
	h := newHarness(t)
	h.runtime.Before = func(context.Context, string) error {
		return fmt.Errorf("two are wrong:\n  VCPUCount = \"many\"; accepted: a number\n  Driver = \"tape\"; accepted: scsi: %w", errdefs.ErrInvalidArgument)
	}
	_, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: sandboxConfig("a")})
	want := `two are wrong: VCPUCount = "many"; accepted: a number | Driver = "tape"; accepted: scsi`
	if got := status.Convert(err).Message(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDeadline(t *testing.T) {
	h := newHarness(t)
	h.runtime.Before = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	ctx, cancel := context.WithTimeout(h.ctx, 20*time.Millisecond)
	defer cancel()
	_, err := h.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: sandboxConfig("a")})
	wantCode(t, err, codes.DeadlineExceeded)
}

func TestPanicEndsOnlyItsCall(t *testing.T) {
	h := newHarness(t)
	h.runtime.Before = func(context.Context, string) error { panic("a bug") }
	_, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: sandboxConfig("a")})
	wantCode(t, err, codes.Internal, "a bug", "RunPodSandbox")
	h.runtime.Before = nil
	h.sandbox(t, "a")
	if log := h.log.String(); !strings.Contains(log, "panicked") || !strings.Contains(log, "codes_test.go") {
		t.Errorf("the log lacks the panic and where it was: %s", log)
	}
}

// A line names what was asked for and what was made.
func TestLogNamesObjects(t *testing.T) {
	h := newHarness(t)
	pod := h.sandbox(t, "a")
	id := h.container(t, pod, "vm")
	image := h.pull(t, "virtlet.cloud/cirros")
	log := h.log.String()
	for _, want := range []string{"namespace=default pod=a uid=uid-a", "sandbox=" + pod, "name=vm namespace=default", "vm=" + ids.Short(id) + " container=" + id, "id=" + image} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
}

// All lines about a VM say which it is in the same way, in JSON as well, also
// the one of its removal.
func TestLogInJSON(t *testing.T) {
	log := &buffer{}
	h := newHarness(t, func(o *cri.Options) {
		o.Log = slog.New(slog.NewJSONHandler(log, nil))
	})
	pod := h.sandbox(t, "a")
	id := h.container(t, pod, "vm")
	h.start(t, id)
	if _, err := h.RemoveContainer(h.ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"namespace": "default", "pod": "a", "uid": "uid-a", "sandbox": pod, "vm": ids.Short(id), "container": id}
	lines := 0
	for text := range strings.Lines(log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if line["msg"] == "RunPodSandbox" {
			continue // there is no VM yet
		}
		lines++
		for key, value := range want {
			if line[key] != value {
				t.Errorf("%s is %v instead of %v in %s", key, line[key], value, text)
			}
		}
	}
	if lines != 3 {
		t.Errorf("%d lines of a creation, a start and a removal", lines)
	}
}

// What may be secret is in no line of the log, at any level.
func TestSecretsAreNotLogged(t *testing.T) {
	h := newHarness(t)
	h.store.Before = func(context.Context, string, *images.Auth) error { return errors.New("unauthorised") }
	cfg := sandboxConfig("a")
	cfg.Annotations["VirtletCloudInitUserData"] = "s3cret"
	_, _ = h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	vm := containerConfig("vm")
	vm.Envs = []*runtimeapi.KeyValue{{Key: "PASSWORD", Value: []byte("s3cret")}}
	_, _ = h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: "716d", Config: vm, SandboxConfig: cfg})
	_, _ = h.images.PullImage(h.ctx, &runtimeapi.PullImageRequest{
		Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/cirros", Annotations: cfg.Annotations}, SandboxConfig: cfg,
		Auth: &runtimeapi.AuthConfig{Username: "joe", Password: "s3cret", RegistryToken: "s3cret"},
	})
	log := h.log.String()
	for _, want := range []string{"RunPodSandbox", "namespace=default pod=a", "CreateContainer", "PullImage", "image=virtlet.cloud/cirros", "unauthorised"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %s", want, log)
		}
	}
	if strings.Contains(log, "s3cret") {
		t.Errorf("a secret in the log: %s", log)
	}
}

// kubelet's messages may be larger than gRPC's default of 4 MiB.
func TestLargeMessage(t *testing.T) {
	h := newHarness(t)
	cfg := sandboxConfig("a")
	cfg.Annotations["big"] = strings.Repeat("x", 10<<20)
	resp, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: resp.PodSandboxId})
	if err != nil || got.Status.Annotations["big"] != cfg.Annotations["big"] {
		t.Errorf("the annotation did not come back: %v", err)
	}
}

// A shutdown ends what is still running after a while, and not at once.
func TestStopWaitsForCalls(t *testing.T) {
	h := newHarness(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	h.runtime.Before = func(context.Context, string) error { close(entered); <-leave; return nil }
	done := make(chan error, 1)
	go func() {
		_, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: sandboxConfig("a")})
		done <- err
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	close(leave)
	if err := <-done; err != nil {
		t.Errorf("the running call: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
