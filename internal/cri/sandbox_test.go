package cri_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestPodSandboxStatus(t *testing.T) {
	h := newHarness(t)
	id := h.sandbox(t, "a")
	resp, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id[:12]})
	if err != nil {
		t.Fatal(err)
	}
	got, cfg := resp.Status, sandboxConfig("a")
	if got.CreatedAt <= 0 {
		t.Error("created_at is not positive")
	}
	got.CreatedAt = 0
	want := &runtimeapi.PodSandboxStatus{
		Id: id, Metadata: cfg.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_READY,
		Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.1.2.3", AdditionalIps: []*runtimeapi.PodIP{{Ip: "fd00::3"}}},
		Linux:   &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{Options: &runtimeapi.NamespaceOption{}}},
		Labels:  cfg.Labels, Annotations: cfg.Annotations, RuntimeHandler: "qemulet",
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if len(resp.Info) != 0 {
		t.Errorf("info without verbose: %v", resp.Info)
	}
	verbose, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil || len(verbose.Info) == 0 {
		t.Errorf("verbose: %v, %v", verbose, err)
	}
}

// The namespaces are told back as asked for, or kubelet makes a new sandbox.
func TestPodSandboxStatusNamespaces(t *testing.T) {
	h := newHarness(t)
	cfg := sandboxConfig("a")
	options := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	cfg.Linux = &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: options}}
	run, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: run.PodSandboxId})
	if err != nil || !proto.Equal(resp.Status.Linux.Namespaces.Options, options) {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestStoppedSandboxHasNoAddress(t *testing.T) {
	h := newHarness(t)
	id := h.sandbox(t, "a")
	if _, err := h.StopPodSandbox(h.ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Fatal(err)
	}
	resp, err := h.PodSandboxStatus(h.ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status.State != runtimeapi.PodSandboxState_SANDBOX_NOTREADY || resp.Status.Network == nil || resp.Status.Network.Ip != "" {
		t.Errorf("got %v", resp.Status)
	}
	_, err = h.PortForward(h.ctx, &runtimeapi.PortForwardRequest{PodSandboxId: id})
	wantCode(t, err, codes.FailedPrecondition, "stopped")
}

func TestListPodSandbox(t *testing.T) {
	h := newHarness(t)
	a, b, c := h.sandbox(t, "a"), h.sandbox(t, "b"), h.sandbox(t, "c")
	if _, err := h.StopPodSandbox(h.ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: b}); err != nil {
		t.Fatal(err)
	}
	ready := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	stopped := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	for _, test := range []struct {
		name   string
		filter *runtimeapi.PodSandboxFilter
		want   []string
	}{
		{"nil", nil, []string{a, b, c}},
		{"empty", &runtimeapi.PodSandboxFilter{}, []string{a, b, c}},
		{"id", &runtimeapi.PodSandboxFilter{Id: b}, []string{b}},
		{"beginning of an id", &runtimeapi.PodSandboxFilter{Id: c[:20]}, []string{c}},
		{"unknown id", &runtimeapi.PodSandboxFilter{Id: strings.Repeat("f", 64)}, nil},
		{"longer than an id", &runtimeapi.PodSandboxFilter{Id: a + "0"}, nil},
		{"ready", &runtimeapi.PodSandboxFilter{State: ready}, []string{a, c}},
		{"not ready", &runtimeapi.PodSandboxFilter{State: stopped}, []string{b}},
		{"label", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "a"}}, []string{a}},
		{"common label", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"kind": "vm"}}, []string{a, b, c}},
		{"all labels must match", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"kind": "vm", "app": "x"}}, nil},
		{"label that is missing and empty", &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"other": ""}}, nil},
		{"everything at once", &runtimeapi.PodSandboxFilter{Id: a, State: ready, LabelSelector: map[string]string{"app": "a"}}, []string{a}},
		{"id and the wrong state", &runtimeapi.PodSandboxFilter{Id: a, State: stopped}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, err := h.ListPodSandbox(h.ctx, &runtimeapi.ListPodSandboxRequest{Filter: test.filter})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, item := range resp.Items {
				got = append(got, item.Id)
			}
			if strings.Join(got, " ") != strings.Join(test.want, " ") {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestListPodSandboxItem(t *testing.T) {
	h := newHarness(t)
	id, cfg := h.sandbox(t, "a"), sandboxConfig("a")
	resp, err := h.ListPodSandbox(h.ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := resp.Items[0]
	if got.CreatedAt <= 0 {
		t.Error("created_at is not positive")
	}
	got.CreatedAt = 0
	want := &runtimeapi.PodSandbox{Id: id, Metadata: cfg.Metadata, Labels: cfg.Labels, Annotations: cfg.Annotations, RuntimeHandler: "qemulet"}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// kubelet repeats a request that timed out.
func TestRunPodSandboxTwice(t *testing.T) {
	h := newHarness(t)
	if first, second := h.sandbox(t, "a"), h.sandbox(t, "a"); first != second {
		t.Errorf("two sandboxes: %s, %s", first, second)
	}
}

func TestRunPodSandboxRefuses(t *testing.T) {
	h := newHarness(t)
	for field, change := range map[string]func(*runtimeapi.PodSandboxConfig){
		"config.metadata.name":      func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Name = "" },
		"config.metadata.namespace": func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Namespace = "" },
		"config.metadata.uid":       func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Uid = "" },
		"metadata":                  func(c *runtimeapi.PodSandboxConfig) { c.Metadata = nil },
	} {
		cfg := sandboxConfig("a")
		change(cfg)
		_, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: cfg})
		wantCode(t, err, codes.InvalidArgument, field, "missing")
	}
	_, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{})
	wantCode(t, err, codes.InvalidArgument)
}
