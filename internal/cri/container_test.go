package cri_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (h *harness) status(t *testing.T, id string) *runtimeapi.ContainerStatus {
	t.Helper()
	resp, err := h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status
}

func TestContainerLife(t *testing.T) {
	h := newHarness(t)
	id := h.container(t, h.sandbox(t, "a"), "vm")
	created := h.status(t, id)
	if created.State != runtimeapi.ContainerState_CONTAINER_CREATED || created.CreatedAt <= 0 || created.StartedAt != 0 || created.FinishedAt != 0 {
		t.Errorf("created: %v", created)
	}
	h.start(t, id)
	running := h.status(t, id)
	if running.State != runtimeapi.ContainerState_CONTAINER_RUNNING || running.StartedAt < running.CreatedAt || running.FinishedAt != 0 {
		t.Errorf("running: %v", running)
	}
	if _, err := h.StopContainer(h.ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10}); err != nil {
		t.Fatal(err)
	}
	exited := h.status(t, id)
	if exited.State != runtimeapi.ContainerState_CONTAINER_EXITED || exited.FinishedAt < exited.StartedAt || exited.ExitCode != 0 || exited.Reason != "Completed" {
		t.Errorf("exited: %v", exited)
	}
	_, err := h.StartContainer(h.ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
	wantCode(t, err, codes.FailedPrecondition)
	if _, err := h.RemoveContainer(h.ctx, &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	_, err = h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	wantCode(t, err, codes.NotFound)
}

func TestContainerStatusFields(t *testing.T) {
	h := newHarness(t)
	id, cfg := h.container(t, h.sandbox(t, "a"), "vm"), containerConfig("vm")
	got := h.status(t, id[:13])
	got.CreatedAt = 0
	want := &runtimeapi.ContainerStatus{
		Id: id, Metadata: cfg.Metadata, State: runtimeapi.ContainerState_CONTAINER_CREATED,
		Image: cfg.Image, ImageRef: cfg.Image.Image, ImageId: cfg.Image.Image,
		Labels: cfg.Labels, Annotations: cfg.Annotations, Mounts: cfg.Mounts,
		LogPath:   "/var/log/pods/a/vm/0.log",
		Resources: &runtimeapi.ContainerResources{Linux: cfg.Linux.Resources},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	verbose, err := h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil || len(verbose.Info) == 0 {
		t.Errorf("verbose: %v, %v", verbose, err)
	}
}

func TestListContainers(t *testing.T) {
	h := newHarness(t)
	podA, podB := h.sandbox(t, "a"), h.sandbox(t, "b")
	a, b, c := h.container(t, podA, "vm"), h.container(t, podB, "vm"), h.container(t, podB, "other")
	h.start(t, a)
	h.start(t, b)
	if _, err := h.StopContainer(h.ctx, &runtimeapi.StopContainerRequest{ContainerId: b}); err != nil {
		t.Fatal(err)
	}
	state := func(s runtimeapi.ContainerState) *runtimeapi.ContainerStateValue {
		return &runtimeapi.ContainerStateValue{State: s}
	}
	for _, test := range []struct {
		name   string
		filter *runtimeapi.ContainerFilter
		want   []string
	}{
		{"nil, with those that have exited", nil, []string{a, b, c}},
		{"empty", &runtimeapi.ContainerFilter{}, []string{a, b, c}},
		{"id", &runtimeapi.ContainerFilter{Id: a}, []string{a}},
		{"beginning of an id", &runtimeapi.ContainerFilter{Id: b[:16]}, []string{b}},
		{"unknown id", &runtimeapi.ContainerFilter{Id: "nothing"}, nil},
		{"sandbox", &runtimeapi.ContainerFilter{PodSandboxId: podB}, []string{b, c}},
		{"beginning of a sandbox", &runtimeapi.ContainerFilter{PodSandboxId: podA[:20]}, []string{a}},
		{"unknown sandbox", &runtimeapi.ContainerFilter{PodSandboxId: "nothing"}, nil},
		{"created", &runtimeapi.ContainerFilter{State: state(runtimeapi.ContainerState_CONTAINER_CREATED)}, []string{c}},
		{"running", &runtimeapi.ContainerFilter{State: state(runtimeapi.ContainerState_CONTAINER_RUNNING)}, []string{a}},
		{"exited", &runtimeapi.ContainerFilter{State: state(runtimeapi.ContainerState_CONTAINER_EXITED)}, []string{b}},
		{"label", &runtimeapi.ContainerFilter{LabelSelector: map[string]string{"name": "vm"}}, []string{a, b}},
		{"label and sandbox", &runtimeapi.ContainerFilter{PodSandboxId: podB, LabelSelector: map[string]string{"name": "vm"}}, []string{b}},
		{"id and the wrong sandbox", &runtimeapi.ContainerFilter{Id: a, PodSandboxId: podB}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, err := h.ListContainers(h.ctx, &runtimeapi.ListContainersRequest{Filter: test.filter})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, item := range resp.Containers {
				got = append(got, item.Id)
				if item.ImageId == "" || item.CreatedAt <= 0 || item.Metadata == nil {
					t.Errorf("item lacks fields: %v", item)
				}
			}
			if strings.Join(got, " ") != strings.Join(test.want, " ") {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestCreateContainerRefuses(t *testing.T) {
	h := newHarness(t)
	pod := h.sandbox(t, "a")
	for words, change := range map[string]func(*runtimeapi.ContainerConfig){
		"config.metadata.name": func(c *runtimeapi.ContainerConfig) { c.Metadata = nil },
		"config.image.image":   func(c *runtimeapi.ContainerConfig) { c.Image = nil },
		"run_as_user": func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{RunAsGroup: &runtimeapi.Int64Value{Value: 1}}
		},
		"readonly": func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/x", RecursiveReadOnly: true}}
		},
		"PROPAGATION_PRIVATE": func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/x", RecursiveReadOnly: true, Readonly: true,
				Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL}}
		},
	} {
		cfg := containerConfig("vm")
		change(cfg)
		_, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: cfg})
		wantCode(t, err, codes.InvalidArgument, words)
	}
	_, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: "nothing", Config: containerConfig("vm")})
	wantCode(t, err, codes.NotFound)
}

func TestReopenContainerLog(t *testing.T) {
	h := newHarness(t)
	id := h.container(t, h.sandbox(t, "a"), "vm")
	if _, err := h.ReopenContainerLog(h.ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id[:12]}); err != nil {
		t.Fatal(err)
	}
	if got := h.runtime.Reopened(); len(got) != 1 || got[0] != id {
		t.Errorf("reopened: %v", got)
	}
}

func TestAttachChecks(t *testing.T) {
	h := newHarness(t)
	pod := h.sandbox(t, "a")
	id := h.container(t, pod, "vm")
	attach := func(req *runtimeapi.AttachRequest) error {
		_, err := h.Attach(h.ctx, req)
		return err
	}
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: id, Stdout: true}), codes.FailedPrecondition, "CREATED")
	h.start(t, id)
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: id}), codes.InvalidArgument, "stdout")
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: id, Stdout: true, Stderr: true, Tty: true}), codes.OK)
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Tty: true}), codes.OK)
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: id[:12], Stdout: true}), codes.OK)
	wantCode(t, attach(&runtimeapi.AttachRequest{Stdout: true}), codes.InvalidArgument, "container_id")

	cfg := containerConfig("plain")
	cfg.Tty = false
	plain, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	h.start(t, plain.ContainerId)
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: plain.ContainerId, Stdout: true, Tty: true}), codes.InvalidArgument, "tty: true")
	if _, err := h.StopContainer(h.ctx, &runtimeapi.StopContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, attach(&runtimeapi.AttachRequest{ContainerId: id, Stdout: true}), codes.FailedPrecondition, "EXITED")
}
