package metrics

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// doings counts what the daemon does.
type doings struct {
	phases     *prometheus.HistogramVec
	failures   *prometheus.CounterVec
	exits      *prometheus.CounterVec
	recoveries *prometheus.CounterVec
	requests   *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	panics     prometheus.Counter
	emulating  *prometheus.GaugeVec
}

// PhasePull is a phase of a VM's way that the image store tells of.
const PhasePull runtime.Phase = "pull"

func newDoings() doings {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	d := doings{
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "phase_duration_seconds",
			Help:    "How long the parts of a VM's way took that have succeeded, by phase; one may be a part of another.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900},
		}, []string{"phase"}),
		failures:   counter("phase_failures_total", "Parts of a VM's way that have failed, by phase.", "phase"),
		exits:      counter("vm_exits_total", "VMs that have ended since the daemon's start, by reason, as kubectl shows it.", "reason"),
		recoveries: counter("recoveries_total", "VMs that the daemon found at its start, by what became of them: adopted, ended, failed.", "result"),
		requests:   counter("cri_requests_total", "Calls of CRI that were answered, by method and gRPC code.", "method", "code"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "cri_request_duration_seconds", Help: "How long calls of CRI took, by method.",
			Buckets: []float64{.0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 240},
		}, []string{"method"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "panics_total", Help: "Defects of the daemon that it has survived; its log has the details.",
		}),
		emulating: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "hypervisor_info", Help: "Always 1; the labels say how VMs run: by kvm or tcg, and whether that is a fallback. Not there before QEMU was found usable.",
		}, []string{"accel", "fallback", "version"}),
	}
	d.begin()
	return d
}

// begin makes all series of a known name: a rate needs a value before the first event.
func (d doings) begin() {
	for _, p := range append(runtime.Phases(), PhasePull) {
		d.phases.WithLabelValues(string(p))
		d.failures.WithLabelValues(string(p))
	}
	for _, r := range runtime.Reasons() {
		d.exits.WithLabelValues(r)
	}
	for _, r := range runtime.Recoveries() {
		d.recoveries.WithLabelValues(r)
	}
}

func (d doings) collectors() []prometheus.Collector {
	return []prometheus.Collector{d.phases, d.failures, d.exits, d.recoveries, d.requests, d.latency, d.panics, d.emulating}
}

// PhaseEnded implements runtime.Observer.
func (m *Metrics) PhaseEnded(phase runtime.Phase, took time.Duration, err error) {
	if err != nil {
		m.doings.failures.WithLabelValues(string(phase)).Inc()
		return
	}
	m.doings.phases.WithLabelValues(string(phase)).Observe(took.Seconds())
}

// VMEnded implements runtime.Observer.
func (m *Metrics) VMEnded(reason string) { m.doings.exits.WithLabelValues(reason).Inc() }

// VMRecovered implements runtime.Observer.
func (m *Metrics) VMRecovered(how string) { m.doings.recoveries.WithLabelValues(how).Inc() }

// Panicked implements runtime.Observer.
func (m *Metrics) Panicked() { m.doings.panics.Inc() }

// Requested tells of a call of CRI that was answered.
func (m *Metrics) Requested(method, code string, took time.Duration) {
	m.doings.requests.WithLabelValues(method, code).Inc()
	m.doings.latency.WithLabelValues(method).Observe(took.Seconds())
}

// Hypervisor tells how VMs run from now on.
func (m *Metrics) Hypervisor(accel, version string, fallback bool) {
	m.doings.emulating.Reset()
	word := "false"
	if fallback {
		word = "true"
	}
	m.doings.emulating.WithLabelValues(accel, word, version).Set(1)
}

func stateName(s runtimeapi.ContainerState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "CONTAINER_"))
}
