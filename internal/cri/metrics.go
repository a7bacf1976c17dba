package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// metric is a number that kubelet shows under the name that cAdvisor gives it
// for containers (/metrics/cadvisor).
type metric struct {
	name, help string
	gauge      bool
	value      func(runtime.Stats) uint64
}

var vmMetrics = []metric{
	{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", false, func(s runtime.Stats) uint64 { return uint64(s.Usage.CPU / time.Second) }},
	{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.", true, func(s runtime.Stats) uint64 { return uint64(s.Usage.Memory) }},
	{"container_memory_working_set_bytes", "Current working set in bytes.", true, func(s runtime.Stats) uint64 { return uint64(s.Usage.WorkingSet) }},
	{"container_memory_rss", "Size of RSS in bytes.", true, func(s runtime.Stats) uint64 { return uint64(s.Usage.RSS) }},
	{"container_memory_swap", "Container swap usage in bytes.", true, func(s runtime.Stats) uint64 { return uint64(s.Usage.Swap) }},
	{"container_oom_events_total", "Count of out of memory events observed for the container.", false, func(s runtime.Stats) uint64 { return s.Usage.OOMKills }},
	{"container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", false, func(s runtime.Stats) uint64 { return uint64(s.Usage.Throttled / time.Second) }},
	{"container_processes", "Number of processes running inside the container.", true, func(s runtime.Stats) uint64 { return uint64(s.Processes) }},
	{"container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", true, func(s runtime.Stats) uint64 { return s.DiskBytes }},
	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", true, func(s runtime.Stats) uint64 { return uint64(s.Container.StartedAt.Unix()) }},
}

// labelKeys are the labels that all metrics have; kubelet adds those that it
// knows by the ids.
var labelKeys = []string{"id", "name", "image"}

// ListMetricDescriptors tells what ListPodSandboxMetrics measures. kubelet asks
// once, at its start.
func (s *Server) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	resp := &runtimeapi.ListMetricDescriptorsResponse{}
	for _, m := range vmMetrics {
		resp.Descriptors = append(resp.Descriptors, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: labelKeys})
	}
	return resp, nil
}

// ListPodSandboxMetrics measures the VMs that run, for kubelet's
// /metrics/cadvisor.
func (s *Server) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	resp := &runtimeapi.ListPodSandboxMetricsResponse{}
	for _, st := range s.Runtime.RunningStats(func(runtime.Container) bool { return true }) {
		resp.PodMetrics = append(resp.PodMetrics, &runtimeapi.PodSandboxMetrics{
			PodSandboxId:     st.Container.SandboxID,
			ContainerMetrics: []*runtimeapi.ContainerMetrics{{ContainerId: st.Container.ID, Metrics: metricsOf(st)}},
		})
	}
	return resp, nil
}

func metricsOf(st runtime.Stats) []*runtimeapi.Metric {
	var all []*runtimeapi.Metric
	for _, m := range vmMetrics {
		kind := runtimeapi.MetricType_COUNTER
		if m.gauge {
			kind = runtimeapi.MetricType_GAUGE
		}
		all = append(all, &runtimeapi.Metric{
			Name: m.name, Timestamp: st.Time.UnixNano(), MetricType: kind,
			LabelValues: []string{st.Container.ID, st.Container.Config.GetMetadata().GetName(), st.Container.Config.GetImage().GetUserSpecifiedImage()},
			Value:       number(m.value(st)),
		})
	}
	return all
}
