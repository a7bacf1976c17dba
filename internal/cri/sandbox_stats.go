package cri

import (
	"context"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// PodSandboxStats measures a pod; NotFound when there is none. Without an id
// it is asked whether pods are measured here at all: they are.
func (s *Server) PodSandboxStats(_ context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	if err := needID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	sb, err := s.Runtime.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: s.measurePods([]runtime.Sandbox{sb})[0]}, nil
}

// ListPodSandboxStats measures the pods that are ready and that a filter picks.
func (s *Server) ListPodSandboxStats(_ context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	var pods []runtime.Sandbox
	for _, sb := range s.Runtime.Sandboxes() {
		f := req.GetFilter()
		if sb.Ready && wanted(f.GetId(), sb.ID) && selected(f.GetLabelSelector(), sb.Config.GetLabels()) {
			pods = append(pods, sb)
		}
	}
	slices.SortFunc(pods, func(a, b runtime.Sandbox) int { return strings.Compare(a.ID, b.ID) })
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: s.measurePods(pods)}, nil
}

// measurePods measures all VMs at once, in the order of the pods.
func (s *Server) measurePods(pods []runtime.Sandbox) []*runtimeapi.PodSandboxStats {
	bySandbox := map[string][]runtime.Stats{}
	for _, st := range s.Runtime.RunningStats(func(runtime.Container) bool { return true }) {
		bySandbox[st.Container.SandboxID] = append(bySandbox[st.Container.SandboxID], st)
	}
	mountpoint := s.mountpoint()
	var all []*runtimeapi.PodSandboxStats
	for _, sb := range pods {
		all = append(all, podStats(sb, s.now(), bySandbox[sb.ID], mountpoint))
	}
	return all
}

// podStats is the sum of a pod's VMs, of which there is one at most.
func podStats(sb runtime.Sandbox, now int64, vms []runtime.Stats, mountpoint string) *runtimeapi.PodSandboxStats {
	linux := &runtimeapi.LinuxPodSandboxStats{
		Cpu:     &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: number(0)},
		Memory:  &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: number(0), UsageBytes: number(0), RssBytes: number(0)},
		Process: &runtimeapi.ProcessUsage{Timestamp: now, ProcessCount: number(0)},
	}
	for _, st := range vms {
		linux.Cpu, linux.Memory = cpuUsage(st), memoryUsage(st)
		linux.Process.ProcessCount = number(st.Processes)
		linux.Containers = append(linux.Containers, containerStats(st, mountpoint))
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id: sb.ID, Metadata: sb.Config.GetMetadata(), Labels: sb.Config.GetLabels(), Annotations: sb.Config.GetAnnotations(),
		},
		Linux: linux,
	}
}
