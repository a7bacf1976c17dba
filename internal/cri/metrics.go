package cri

import (
	"context"
	"slices"
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
	{"container_processes", "Number of processes running inside the container.", true, func(s runtime.Stats) uint64 { return uint64(s.Usage.Processes) }},
	{diskMetric, "Number of bytes that are consumed by the container on this filesystem.", true, func(s runtime.Stats) uint64 { return s.DiskBytes }},
	{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", true, func(s runtime.Stats) uint64 { return uint64(s.Container.StartedAt.Unix()) }},
}

type nicMetric struct {
	name, help string
	value      func(runtime.NICStats) uint64
}

var nicMetrics = []nicMetric{
	{"container_network_receive_bytes_total", "Cumulative count of bytes received.", func(n runtime.NICStats) uint64 { return n.RxBytes }},
	{"container_network_receive_packets_total", "Cumulative count of packets received.", func(n runtime.NICStats) uint64 { return n.RxPackets }},
	{"container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving.", func(n runtime.NICStats) uint64 { return n.RxDropped }},
	{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving.", func(n runtime.NICStats) uint64 { return n.RxErrors }},
	{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", func(n runtime.NICStats) uint64 { return n.TxBytes }},
	{"container_network_transmit_packets_total", "Cumulative count of packets transmitted.", func(n runtime.NICStats) uint64 { return n.TxPackets }},
	{"container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting.", func(n runtime.NICStats) uint64 { return n.TxDropped }},
	{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting.", func(n runtime.NICStats) uint64 { return n.TxErrors }},
}

// diskMetric has a label more than the others, which containerd fills with "/".
const diskMetric = "container_fs_usage_bytes"

// labelKeys are containerd's, in its order: of two runtimes that have a metric
// of the same name kubelet knows the keys of one only, drops what has another
// number of values, and adds no labels of its own.
func labelKeys(more ...string) []string {
	return append([]string{"pod", "namespace", "container", "id", "image"}, more...)
}

// ListMetricDescriptors tells what ListPodSandboxMetrics measures. kubelet asks
// once, at its start.
func (s *Server) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	resp := &runtimeapi.ListMetricDescriptorsResponse{}
	add := func(name, help string, keys []string) {
		resp.Descriptors = append(resp.Descriptors, &runtimeapi.MetricDescriptor{Name: name, Help: help, LabelKeys: keys})
	}
	for _, m := range vmMetrics {
		keys := labelKeys()
		if m.name == diskMetric {
			keys = labelKeys("device")
		}
		add(m.name, m.help, keys)
	}
	for _, m := range nicMetrics {
		add(m.name, m.help, labelKeys("interface"))
	}
	return resp, nil
}

// ListPodSandboxMetrics measures the VMs that run, for kubelet's
// /metrics/cadvisor.
func (s *Server) ListPodSandboxMetrics(ctx context.Context, _ *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	resp := &runtimeapi.ListPodSandboxMetricsResponse{}
	for _, st := range s.Runtime.RunningStats(func(runtime.Container) bool { return true }) {
		sb, err := s.Runtime.Sandbox(st.Container.SandboxID)
		if err != nil {
			continue // it goes at this moment
		}
		resp.PodMetrics = append(resp.PodMetrics, &runtimeapi.PodSandboxMetrics{
			PodSandboxId:     sb.ID,
			Metrics:          s.networkMetrics(ctx, sb),
			ContainerMetrics: []*runtimeapi.ContainerMetrics{{ContainerId: st.Container.ID, Metrics: metricsOf(sb, st)}},
		})
	}
	return resp, nil
}

func metricsOf(sb runtime.Sandbox, st runtime.Stats) []*runtimeapi.Metric {
	c := st.Container
	labels := []string{sb.Config.GetMetadata().GetName(), sb.Config.GetMetadata().GetNamespace(),
		c.Config.GetMetadata().GetName(), c.ID, c.Config.GetImage().GetUserSpecifiedImage()}
	var all []*runtimeapi.Metric
	for _, m := range vmMetrics {
		kind := runtimeapi.MetricType_COUNTER
		if m.gauge {
			kind = runtimeapi.MetricType_GAUGE
		}
		values := labels
		if m.name == diskMetric {
			values = slices.Concat(labels, []string{"/"})
		}
		all = append(all, &runtimeapi.Metric{
			Name: m.name, Timestamp: st.Time.UnixNano(), MetricType: kind, LabelValues: values, Value: number(m.value(st)),
		})
	}
	return all
}

// networkMetrics are the pod's, not the container's, as cAdvisor has it.
func (s *Server) networkMetrics(ctx context.Context, sb runtime.Sandbox) []*runtimeapi.Metric {
	nics, err := s.Runtime.NetworkStats(ctx, sb.ID)
	if err != nil {
		s.Log.With(s.aboutSandbox(sb.ID)...).Warn("a pod's network cannot be measured", "error", err)
	}
	var all []*runtimeapi.Metric
	for _, nic := range nics {
		labels := []string{sb.Config.GetMetadata().GetName(), sb.Config.GetMetadata().GetNamespace(), "", sb.ID, "", nic.Name}
		for _, m := range nicMetrics {
			all = append(all, &runtimeapi.Metric{
				Name: m.name, Timestamp: s.now(), MetricType: runtimeapi.MetricType_COUNTER, LabelValues: labels, Value: number(m.value(nic)),
			})
		}
	}
	return all
}
