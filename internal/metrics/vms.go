package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/runtime"
)

// VMs is what is asked each time that metrics are collected; *runtime.Runtime
// implements it.
type VMs interface {
	Measure(ctx context.Context) []runtime.Measurement
	Containers() []runtime.Container
	Sandboxes() []runtime.Sandbox
}

// WatchVMs adds the metrics of VMs. It must be called once.
func (m *Metrics) WatchVMs(v VMs) { m.registry.MustRegister(vmCollector{v}) }

// vmMetric is one number of a VM. value is false for what is not known.
type vmMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*runtime.Measurement) (float64, bool)
}

// Those of a VM have these labels: there is one VM in a pod.
var vmLabels = []string{"namespace", "pod"}

func vmDesc(name, help string, more ...string) *prometheus.Desc {
	return desc("vm_"+name, help, append(vmLabels, more...)...)
}

func vmGauge(name, help string, value func(*runtime.Measurement) (float64, bool)) vmMetric {
	return vmMetric{vmDesc(name, help), prometheus.GaugeValue, value}
}

func vmCounter(name, help string, value func(*runtime.Measurement) (float64, bool)) vmMetric {
	return vmMetric{vmDesc(name, help), prometheus.CounterValue, value}
}

// known is for what is always known.
func known[N int64 | uint64](value func(*runtime.Measurement) N) func(*runtime.Measurement) (float64, bool) {
	return func(m *runtime.Measurement) (float64, bool) { return float64(value(m)), true }
}

func seconds(value func(*runtime.Measurement) time.Duration) func(*runtime.Measurement) (float64, bool) {
	return func(m *runtime.Measurement) (float64, bool) { return value(m).Seconds(), true }
}

// vmMetrics are those that need no machine to answer.
var vmMetrics = []vmMetric{
	vmGauge("start_time_seconds", "When the VM was started, in seconds since 1970.", func(m *runtime.Measurement) (float64, bool) {
		return float64(m.Container.StartedAt.UnixMilli()) / 1000, true
	}),
	vmGauge("uptime_seconds", "For how long the VM has been running.", seconds(func(m *runtime.Measurement) time.Duration { return m.Time.Sub(m.Container.StartedAt) })),
	vmGauge("boot_duration_seconds", "From the start to the first byte on the guest's console; not there for VMs that an earlier daemon started.",
		func(m *runtime.Measurement) (float64, bool) { return m.BootTime.Seconds(), m.BootTime > 0 }),
	vmCounter("cpu_seconds_total", "Processor time of QEMU, the guest's included.", seconds(func(m *runtime.Measurement) time.Duration { return m.Usage.CPU })),
	vmCounter("cpu_throttled_seconds_total", "For how long the CPU limit kept the VM from running.", seconds(func(m *runtime.Measurement) time.Duration { return m.Usage.Throttled })),
	vmGauge("memory_usage_bytes", "Memory of the VM's cgroup: the guest's RAM as far as it was touched, QEMU's own, and page cache.", known(func(m *runtime.Measurement) int64 { return m.Usage.Memory })),
	vmGauge("memory_working_set_bytes", "The same without page cache that can go at once.", known(func(m *runtime.Measurement) int64 { return m.Usage.WorkingSet })),
	vmGauge("memory_rss_bytes", "Anonymous and shared memory: the guest's RAM as far as it was touched, and QEMU's own.", known(func(m *runtime.Measurement) int64 { return m.Usage.RSS })),
	vmGauge("memory_swap_bytes", "What of that is in the node's swap.", known(func(m *runtime.Measurement) int64 { return m.Usage.Swap })),
	vmCounter("major_page_faults_total", "Page faults of QEMU that had to read from a disk.", known(func(m *runtime.Measurement) uint64 { return m.Usage.MajorPageFaults })),
	vmCounter("oom_kills_total", "Processes of the VM that the kernel has killed for lack of memory.", known(func(m *runtime.Measurement) uint64 { return m.Usage.OOMKills })),
	vmGauge("disk_allocated_bytes", "What the VM's own files occupy on the node, such as the part of its root disk that differs from the image.", known(func(m *runtime.Measurement) uint64 { return m.DiskBytes })),
	vmGauge("monitor_up", "1 when QEMU's monitor has answered for this collection, 0 when it hangs.", func(m *runtime.Measurement) (float64, bool) { return truth(m.Answers), true }),
}

// sampleMetrics are QEMU's and the guest's own words, of which old ones are
// shown for a minute.
var sampleMetrics = []vmMetric{
	vmGauge("paused", "1 while the guest does not run, because somebody or a full disk has stopped it.", func(m *runtime.Measurement) (float64, bool) { return truth(m.Sample.Paused), true }),
	vmGauge("guest_memory_balloon_bytes", "The part of its RAM that the guest has at the moment.", func(m *runtime.Measurement) (float64, bool) {
		return float64(m.Sample.BalloonBytes), m.Sample.BalloonBytes > 0
	}),
}

// guestMetrics are what the balloon's driver in the guest tells.
var guestMetrics = []vmMetric{
	vmGauge("guest_memory_total_bytes", "Memory that the guest sees.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.Total })),
	vmGauge("guest_memory_free_bytes", "What of it the guest does not use.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.Free })),
	vmGauge("guest_memory_available_bytes", "What programs in the guest can get without swapping.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.Available })),
	vmGauge("guest_memory_caches_bytes", "The guest's own disk caches.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.Caches })),
	vmCounter("guest_swap_in_bytes_total", "What the guest has read from its swap.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.SwapIn })),
	vmCounter("guest_swap_out_bytes_total", "What the guest has written to its swap.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.SwapOut })),
	vmCounter("guest_major_page_faults_total", "Page faults in the guest that had to read from a disk.", told(func(m *runtime.Measurement) *uint64 { return m.Sample.Guest.MajorFaults })),
}

func told(value func(*runtime.Measurement) *uint64) func(*runtime.Measurement) (float64, bool) {
	return func(m *runtime.Measurement) (float64, bool) {
		if v := value(m); v != nil {
			return float64(*v), true
		}
		return 0, false
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// diskMetric is a counter of a disk, nicMetric one of a NIC.
type diskMetric struct {
	desc  *prometheus.Desc
	value func(runtime.DiskStats) float64
}

type nicMetric struct {
	desc  *prometheus.Desc
	value func(runtime.NICStats) uint64
}

func nanoseconds(n uint64) float64 { return time.Duration(n).Seconds() }

func diskDesc(name, help string) *prometheus.Desc { return vmDesc("disk_"+name, help, "disk") }
func nicDesc(name, help string) *prometheus.Desc  { return vmDesc("network_"+name, help, "interface") }

var diskMetrics = []diskMetric{
	{diskDesc("read_bytes_total", "What the guest has read from a disk."), func(d runtime.DiskStats) float64 { return float64(d.ReadBytes) }},
	{diskDesc("written_bytes_total", "What the guest has written to a disk."), func(d runtime.DiskStats) float64 { return float64(d.WriteBytes) }},
	{diskDesc("reads_total", "Read operations on a disk."), func(d runtime.DiskStats) float64 { return float64(d.ReadOperations) }},
	{diskDesc("writes_total", "Write operations on a disk."), func(d runtime.DiskStats) float64 { return float64(d.WriteOperations) }},
	{diskDesc("flushes_total", "Flush operations on a disk."), func(d runtime.DiskStats) float64 { return float64(d.FlushOperations) }},
	{diskDesc("read_seconds_total", "Time spent on reads, those side by side added up."), func(d runtime.DiskStats) float64 { return nanoseconds(d.ReadTimeNS) }},
	{diskDesc("write_seconds_total", "Time spent on writes, those side by side added up."), func(d runtime.DiskStats) float64 { return nanoseconds(d.WriteTimeNS) }},
	{diskDesc("flush_seconds_total", "Time spent on flushes, those side by side added up."), func(d runtime.DiskStats) float64 { return nanoseconds(d.FlushTimeNS) }},
}

var nicMetrics = []nicMetric{
	{nicDesc("receive_bytes_total", "What came to the guest."), func(n runtime.NICStats) uint64 { return n.RxBytes }},
	{nicDesc("receive_packets_total", "Packets that came to the guest."), func(n runtime.NICStats) uint64 { return n.RxPackets }},
	{nicDesc("receive_errors_total", "Packets to the guest that were lost by an error."), func(n runtime.NICStats) uint64 { return n.RxErrors }},
	{nicDesc("receive_dropped_total", "Packets that the guest did not fetch in time."), func(n runtime.NICStats) uint64 { return n.RxDropped }},
	{nicDesc("transmit_bytes_total", "What the guest has sent."), func(n runtime.NICStats) uint64 { return n.TxBytes }},
	{nicDesc("transmit_packets_total", "Packets that the guest has sent."), func(n runtime.NICStats) uint64 { return n.TxPackets }},
	{nicDesc("transmit_errors_total", "Packets of the guest that were lost by an error."), func(n runtime.NICStats) uint64 { return n.TxErrors }},
	{nicDesc("transmit_dropped_total", "Packets of the guest that the node did not take."), func(n runtime.NICStats) uint64 { return n.TxDropped }},
}

var (
	descVMInfo    = vmDesc("info", "Always 1; the labels say more of the VM.", "uid", "container", "vm", "image")
	descVMs       = desc("vms", "VMs by the state of their containers.", "state")
	descSandboxes = desc("sandboxes", "Pod sandboxes by state.", "state")
)

// vmCollector measures the VMs whenever it is asked.
type vmCollector struct{ vms VMs }

// Describe implements prometheus.Collector.
func (c vmCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]vmMetric{vmMetrics, sampleMetrics, guestMetrics} {
		for _, m := range list {
			ch <- m.desc
		}
	}
	for _, m := range diskMetrics {
		ch <- m.desc
	}
	for _, m := range nicMetrics {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{descVMInfo, descVMs, descSandboxes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c vmCollector) Collect(ch chan<- prometheus.Metric) {
	c.count(ch)
	for _, m := range newest(c.vms.Measure(context.Background())) {
		collectVM(ch, m)
	}
}

// newest picks one VM for each name of a pod: a pod that is made again while
// its predecessor ends has the same one.
func newest(all []runtime.Measurement) map[[2]string]*runtime.Measurement {
	picked := map[[2]string]*runtime.Measurement{}
	for i := range all {
		m := &all[i]
		key := [2]string{m.Pod.GetNamespace(), m.Pod.GetName()}
		if have := picked[key]; have == nil || have.Container.StartedAt.Before(m.Container.StartedAt) {
			picked[key] = m
		}
	}
	return picked
}

func collectVM(ch chan<- prometheus.Metric, m *runtime.Measurement) {
	labels := []string{m.Pod.GetNamespace(), m.Pod.GetName()}
	ch <- gauge(descVMInfo, 1, append(labels, m.Pod.GetUid(), m.Container.Config.GetMetadata().GetName(),
		ids.Short(m.Container.ID), m.Container.Config.GetImage().GetUserSpecifiedImage())...)
	collect(ch, vmMetrics, m, labels)
	for _, nic := range m.NICs {
		for _, n := range nicMetrics {
			ch <- prometheus.MustNewConstMetric(n.desc, prometheus.CounterValue, float64(n.value(nic)), append(labels, nic.Name)...)
		}
	}
	if m.Sample == nil {
		return
	}
	collect(ch, sampleMetrics, m, labels)
	for _, disk := range m.Sample.Disks {
		for _, d := range diskMetrics {
			ch <- prometheus.MustNewConstMetric(d.desc, prometheus.CounterValue, d.value(disk), append(labels, disk.Name)...)
		}
	}
	if m.Sample.Guest != nil {
		collect(ch, guestMetrics, m, labels)
	}
}

func collect(ch chan<- prometheus.Metric, metrics []vmMetric, m *runtime.Measurement, labels []string) {
	for _, x := range metrics {
		if value, known := x.value(m); known {
			ch <- prometheus.MustNewConstMetric(x.desc, x.kind, value, labels...)
		}
	}
}

// count counts what there is.
func (c vmCollector) count(ch chan<- prometheus.Metric) {
	states := map[string]int{"created": 0, "running": 0, "exited": 0, "unknown": 0}
	for _, v := range c.vms.Containers() {
		states[stateName(v.State)]++
	}
	for state, n := range states {
		ch <- gauge(descVMs, float64(n), state)
	}
	sandboxes := map[string]int{"ready": 0, "notready": 0}
	for _, s := range c.vms.Sandboxes() {
		if s.Ready {
			sandboxes["ready"]++
		} else {
			sandboxes["notready"]++
		}
	}
	for state, n := range sandboxes {
		ch <- gauge(descSandboxes, float64(n), state)
	}
}
