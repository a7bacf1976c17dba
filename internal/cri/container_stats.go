package cri

import (
	"context"
	"slices"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// ContainerStats measures a VM; NotFound when there is none.
func (s *Server) ContainerStats(_ context.Context, req *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	st, err := s.Runtime.Stats(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: containerStats(st, s.mountpoint())}, nil
}

// ListContainerStats measures the VMs that run and that a filter picks.
func (s *Server) ListContainerStats(_ context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	resp := &runtimeapi.ListContainerStatsResponse{}
	mountpoint := s.mountpoint()
	for _, st := range s.Runtime.RunningStats(func(c runtime.Container) bool { return statsWanted(req.GetFilter(), c) }) {
		resp.Stats = append(resp.Stats, containerStats(st, mountpoint))
	}
	slices.SortFunc(resp.Stats, func(a, b *runtimeapi.ContainerStats) int {
		return strings.Compare(a.Attributes.Id, b.Attributes.Id)
	})
	return resp, nil
}

func statsWanted(f *runtimeapi.ContainerStatsFilter, c runtime.Container) bool {
	return wanted(f.GetId(), c.ID) && wanted(f.GetPodSandboxId(), c.SandboxID) && selected(f.GetLabelSelector(), c.Config.GetLabels())
}

// mountpoint is of the file system that VMs' disks are on, which is that of
// the images; kubelet adds its capacity. Unknown is "".
func (s *Server) mountpoint() string {
	info, err := s.Images.FSInfo()
	if err != nil {
		s.Log.Warn("the file system of the image store", "error", err)
	}
	return info.Mountpoint
}

// containerStats leaves out nothing that kubelet uses without a look.
func containerStats(st runtime.Stats, mountpoint string) *runtimeapi.ContainerStats {
	c, now := st.Container, st.Time.UnixNano()
	return &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{
			Id: c.ID, Metadata: c.Config.GetMetadata(), Labels: c.Config.GetLabels(), Annotations: c.Config.GetAnnotations(),
		},
		Cpu:    cpuUsage(st),
		Memory: memoryUsage(st),
		Swap:   &runtimeapi.SwapUsage{Timestamp: now, SwapUsageBytes: number(st.Usage.Swap)},
		WritableLayer: &runtimeapi.FilesystemUsage{
			Timestamp:  now,
			FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: mountpoint},
			UsedBytes:  number(st.DiskBytes),
			InodesUsed: number(st.Inodes),
		},
	}
}

// cpuUsage has no rate: kubelet makes one from two samples of its own.
func cpuUsage(st runtime.Stats) *runtimeapi.CpuUsage {
	return &runtimeapi.CpuUsage{Timestamp: st.Time.UnixNano(), UsageCoreNanoSeconds: number(st.Usage.CPU)}
}

func memoryUsage(st runtime.Stats) *runtimeapi.MemoryUsage {
	m := &runtimeapi.MemoryUsage{
		Timestamp:       st.Time.UnixNano(),
		WorkingSetBytes: number(st.Usage.WorkingSet),
		UsageBytes:      number(st.Usage.Memory),
		RssBytes:        number(st.Usage.RSS),
		PageFaults:      number(st.Usage.PageFaults),
		MajorPageFaults: number(st.Usage.MajorPageFaults),
	}
	if limit := st.Container.Resources.GetMemoryLimitInBytes(); limit > 0 {
		m.AvailableBytes = number(max(limit-st.Usage.WorkingSet, 0))
	}
	return m
}

func number[T ~int64 | ~uint64 | ~int](n T) *runtimeapi.UInt64Value {
	return &runtimeapi.UInt64Value{Value: uint64(n)}
}
