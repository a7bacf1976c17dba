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
func (s *Server) PodSandboxStats(ctx context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	if err := needID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	sb, err := s.Runtime.Sandbox(req.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: s.measurePods(ctx, []runtime.Sandbox{sb})[0]}, nil
}

// ListPodSandboxStats measures the pods that are ready and that a filter picks.
func (s *Server) ListPodSandboxStats(ctx context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	var pods []runtime.Sandbox
	for _, sb := range s.Runtime.Sandboxes() {
		f := req.GetFilter()
		if sb.Ready && wanted(f.GetId(), sb.ID) && selected(f.GetLabelSelector(), sb.Config.GetLabels()) {
			pods = append(pods, sb)
		}
	}
	slices.SortFunc(pods, func(a, b runtime.Sandbox) int { return strings.Compare(a.ID, b.ID) })
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: s.measurePods(ctx, pods)}, nil
}

// measurePods measures all VMs at once, in the order of the pods.
func (s *Server) measurePods(ctx context.Context, pods []runtime.Sandbox) []*runtimeapi.PodSandboxStats {
	bySandbox := map[string][]runtime.Stats{}
	for _, st := range s.Runtime.RunningStats(func(runtime.Container) bool { return true }) {
		bySandbox[st.Container.SandboxID] = append(bySandbox[st.Container.SandboxID], st)
	}
	mountpoint := s.mountpoint()
	var all []*runtimeapi.PodSandboxStats
	for _, sb := range pods {
		stats := podStats(sb, s.now(), bySandbox[sb.ID], mountpoint)
		stats.Linux.Network = s.networkUsage(ctx, sb.ID)
		all = append(all, stats)
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
		linux.Process.ProcessCount = number(st.Usage.Processes)
		linux.Containers = append(linux.Containers, containerStats(st, mountpoint))
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id: sb.ID, Metadata: sb.Config.GetMetadata(), Labels: sb.Config.GetLabels(), Annotations: sb.Config.GetAnnotations(),
		},
		Linux: linux,
	}
}

// networkUsage is nil for a pod whose NICs cannot be looked at: kubelet shows
// none then.
func (s *Server) networkUsage(ctx context.Context, sandboxID string) *runtimeapi.NetworkUsage {
	nics, err := s.Runtime.NetworkStats(ctx, sandboxID)
	if err != nil {
		s.Log.With(s.aboutSandbox(sandboxID)...).Warn("a pod's network cannot be measured", "error", err)
	}
	if len(nics) == 0 {
		return nil
	}
	usage := &runtimeapi.NetworkUsage{Timestamp: s.now()}
	for i, nic := range nics {
		u := &runtimeapi.NetworkInterfaceUsage{
			Name: nic.Name, RxBytes: number(nic.RxBytes), RxErrors: number(nic.RxErrors), TxBytes: number(nic.TxBytes), TxErrors: number(nic.TxErrors),
		}
		if i == 0 {
			usage.DefaultInterface = u
			continue
		}
		usage.Interfaces = append(usage.Interfaces, u)
	}
	return usage
}
