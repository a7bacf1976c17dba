package cri_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// running makes a pod with a VM that runs.
func (h *harness) running(t *testing.T, name string) (sandbox, container string) {
	t.Helper()
	sandbox = h.sandbox(t, name)
	container = h.container(t, sandbox, "vm")
	if _, err := h.StartContainer(h.ctx, &runtimeapi.StartContainerRequest{ContainerId: container}); err != nil {
		t.Fatal(err)
	}
	return sandbox, container
}

// kubelet uses these without looking whether they are there.
func checkStats(t *testing.T, s *runtimeapi.ContainerStats, id string) {
	t.Helper()
	if s.GetAttributes().GetId() != id || s.GetAttributes().GetMetadata().GetName() != "vm" || len(s.GetAttributes().GetLabels()) == 0 {
		t.Errorf("attributes: %v", s.GetAttributes())
	}
	if c := s.GetCpu(); c.GetTimestamp() == 0 || c.GetUsageCoreNanoSeconds().GetValue() != uint64(time.Second) {
		t.Errorf("cpu: %v", c)
	}
	if m := s.GetMemory(); m.GetTimestamp() == 0 || m.GetWorkingSetBytes().GetValue() != 2<<20 || m.GetAvailableBytes().GetValue() != 126<<20 || m.GetUsageBytes() == nil || m.GetRssBytes() == nil {
		t.Errorf("memory: %v", m)
	}
	if w := s.GetWritableLayer(); w.GetTimestamp() == 0 || w.GetUsedBytes().GetValue() != 1<<20 || w.GetInodesUsed() == nil || w.GetFsId().GetMountpoint() == "" {
		t.Errorf("writable layer: %v", w)
	}
}

func TestContainerStats(t *testing.T) {
	h := newHarness(t)
	sandbox, id := h.running(t, "a")
	_, other := h.running(t, "b")
	created := h.container(t, h.sandbox(t, "c"), "vm")
	one, err := h.ContainerStats(h.ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	checkStats(t, one.GetStats(), id)
	_, err = h.ContainerStats(h.ctx, &runtimeapi.ContainerStatsRequest{ContainerId: "ff"})
	wantCode(t, err, codes.NotFound)
	for name, c := range map[string]struct {
		filter *runtimeapi.ContainerStatsFilter
		want   map[string]bool
	}{
		"all":     {nil, map[string]bool{id: true, other: true}},
		"id":      {&runtimeapi.ContainerStatsFilter{Id: id[:20]}, map[string]bool{id: true}},
		"sandbox": {&runtimeapi.ContainerStatsFilter{PodSandboxId: sandbox}, map[string]bool{id: true}},
		"created": {&runtimeapi.ContainerStatsFilter{Id: created}, map[string]bool{}},
		"label":   {&runtimeapi.ContainerStatsFilter{LabelSelector: map[string]string{"name": "no"}}, map[string]bool{}},
	} {
		got, err := h.ListContainerStats(h.ctx, &runtimeapi.ListContainerStatsRequest{Filter: c.filter})
		if err != nil || len(got.GetStats()) != len(c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		for _, s := range got.GetStats() {
			if !c.want[s.GetAttributes().GetId()] {
				t.Errorf("%s: %s was not asked for", name, s.GetAttributes().GetId())
			}
			checkStats(t, s, s.GetAttributes().GetId())
		}
	}
}

func TestPodStats(t *testing.T) {
	h := newHarness(t)
	sandbox, id := h.running(t, "a")
	idle := h.sandbox(t, "b")
	got, err := h.ListPodSandboxStats(h.ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	if err != nil || len(got.GetStats()) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	for _, p := range got.GetStats() {
		linux := p.GetLinux()
		if p.GetAttributes().GetMetadata() == nil || linux.GetCpu().GetUsageCoreNanoSeconds() == nil || linux.GetMemory().GetWorkingSetBytes() == nil || linux.GetProcess().GetProcessCount() == nil {
			t.Errorf("%v", p)
		}
		if p.GetAttributes().GetId() == sandbox {
			if len(linux.GetContainers()) != 1 || linux.GetProcess().GetProcessCount().GetValue() != 1 {
				t.Fatalf("%v", p)
			}
			checkStats(t, linux.GetContainers()[0], id)
		}
	}
	if n := got.GetStats()[0].GetLinux().GetNetwork(); n.GetTimestamp() == 0 || n.GetDefaultInterface().GetName() != "eth0" ||
		n.GetDefaultInterface().GetRxBytes().GetValue() != 5 || n.GetDefaultInterface().GetTxBytes().GetValue() != 7 || len(n.GetInterfaces()) != 1 {
		t.Errorf("network: %v", n)
	}
	one, err := h.PodSandboxStats(h.ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: idle})
	if err != nil || one.GetStats().GetAttributes().GetId() != idle {
		t.Errorf("%v, %v", one, err)
	}
	_, err = h.PodSandboxStats(h.ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: "ff"})
	wantCode(t, err, codes.NotFound)
}

// The values of each metric have the order of the keys that were told.
func TestPodMetrics(t *testing.T) {
	h := newHarness(t)
	sandbox, id := h.running(t, "a")
	d, err := h.ListMetricDescriptors(h.ctx, &runtimeapi.ListMetricDescriptorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{}
	for _, m := range d.GetDescriptors() {
		keys[m.GetName()] = m.GetLabelKeys()
	}
	got, err := h.ListPodSandboxMetrics(h.ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	if err != nil || len(got.GetPodMetrics()) != 1 || got.PodMetrics[0].GetPodSandboxId() != sandbox || got.PodMetrics[0].ContainerMetrics[0].GetContainerId() != id {
		t.Fatalf("%v, %v", got, err)
	}
	check := func(m *runtimeapi.Metric, container, id, image string) {
		t.Helper()
		want := map[string]string{"pod": "a", "namespace": "default", "container": container, "id": id, "image": image, "device": "/", "interface": "eth0"}
		known := keys[m.GetName()]
		if len(known) == 0 || len(known) != len(m.GetLabelValues()) || m.GetValue() == nil {
			t.Fatalf("%v, told were %v", m, known)
		}
		for i, key := range known {
			if m.LabelValues[i] != want[key] {
				t.Errorf("%s: label %s is %q, want %q", m.GetName(), key, m.LabelValues[i], want[key])
			}
		}
	}
	pod := got.PodMetrics[0]
	for _, m := range pod.ContainerMetrics[0].GetMetrics() {
		check(m, "vm", id, containerConfig("vm").GetImage().GetUserSpecifiedImage())
	}
	if len(pod.GetMetrics()) != 2*8 || pod.Metrics[0].GetValue().GetValue() != 5 || pod.Metrics[4].GetValue().GetValue() != 7 {
		t.Errorf("network: %v", pod.GetMetrics())
	}
	check(pod.GetMetrics()[0], "", sandbox, "")
}

func TestStreamedLists(t *testing.T) {
	h := newHarness(t)
	for i := range 250 {
		h.sandbox(t, fmt.Sprint(i))
	}
	whole, err := h.ListPodSandbox(h.ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := h.StreamPodSandboxes(h.ctx, &runtimeapi.StreamPodSandboxesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var parts []*runtimeapi.PodSandbox
	messages := 0
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(m.GetPodSandboxes()) == 0 {
			t.Fatalf("%v, %v", m, err)
		}
		parts = append(parts, m.GetPodSandboxes()...)
		messages++
	}
	if messages != 3 || !proto.Equal(&runtimeapi.ListPodSandboxResponse{Items: parts}, whole) {
		t.Errorf("%d messages with %d items", messages, len(parts))
	}
	images, err := h.images.StreamImages(h.ctx, &runtimeapi.StreamImagesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := images.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("no images: %v", err)
	}
}

func TestEvents(t *testing.T) {
	h := newHarness(t)
	h.runtime.Happened = make(chan runtime.Event)
	sandbox, id := h.running(t, "a")
	stream, err := h.GetContainerEvents(h.ctx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	meta := &runtimeapi.PodSandboxMetadata{Name: "gone"}
	h.runtime.Happened <- runtime.Event{ID: id, SandboxID: sandbox, Metadata: meta, Type: runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT, Time: time.Now()}
	e, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if e.GetContainerId() != id || e.GetContainerEventType() != runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT || e.GetCreatedAt() == 0 ||
		e.GetPodSandboxStatus().GetMetadata().GetName() != "a" || len(e.GetContainersStatuses()) != 1 || e.GetContainersStatuses()[0].GetId() != id {
		t.Errorf("%v", e)
	}
	h.runtime.Happened <- runtime.Event{ID: "x", SandboxID: "y", Metadata: meta, Time: time.Now()}
	if e, err = stream.Recv(); err != nil || e.GetPodSandboxStatus().GetMetadata().GetName() != "gone" {
		t.Errorf("of a pod that is gone: %v, %v", e, err)
	}
}

func TestUpdateResources(t *testing.T) {
	h := newHarness(t)
	sandbox, id := h.running(t, "a")
	linux := &runtimeapi.LinuxContainerResources{CpuShares: 77}
	_, err := h.UpdateContainerResources(h.ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id, Linux: linux})
	wantCode(t, err, codes.OK)
	got, err := h.ContainerStatus(h.ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil || got.GetStatus().GetResources().GetLinux().GetCpuShares() != 77 {
		t.Errorf("%v, %v", got, err)
	}
	_, err = h.UpdateContainerResources(h.ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id})
	wantCode(t, err, codes.InvalidArgument)
	_, err = h.UpdateContainerResources(h.ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: "ff", Linux: linux})
	wantCode(t, err, codes.NotFound)
	_, err = h.UpdatePodSandboxResources(h.ctx, &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: sandbox})
	wantCode(t, err, codes.OK)
	_, err = h.UpdatePodSandboxResources(h.ctx, &runtimeapi.UpdatePodSandboxResourcesRequest{PodSandboxId: "ff"})
	wantCode(t, err, codes.NotFound)
}
