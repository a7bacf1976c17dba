// Package metrics counts what the daemon does and serves it in Prometheus'
// text format. Each subject has a file of its own. Nothing is kept outside of a
// Metrics, so that a program may hold several.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many may ask at the same time; others are told to wait.
const maxScrapes = 8

// namespace begins all names of ours.
const namespace = "qemulet"

// Metrics are those of one daemon. Its methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry
	pulls    pulls
	doings   doings
}

// New makes the metrics of a daemon with this version: those of its process
// and of Go, and those that are counted by calls of its methods.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), pulls: newPulls(), doings: newDoings()}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1; the label is the daemon's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(
		build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.pulls.ended, m.pulls.seconds,
	)
	m.registry.MustRegister(m.doings.collectors()...)
	return m
}

// Handler answers GET with all metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes,
	})
}
