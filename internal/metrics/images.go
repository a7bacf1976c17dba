package metrics

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/qemulet/qemulet/internal/images"
)

// Images is what is asked each time that metrics are collected; *images.Store
// implements it.
type Images interface {
	List(ctx context.Context, filter string) ([]images.Image, error)
	Downloads() []images.Download
	Received() int64
	FSInfo() (images.FSInfo, error)
}

// pulls counts those that have ended.
type pulls struct {
	ended   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newPulls() pulls {
	return pulls{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "image_pulls_total",
			Help: "Pulls that have ended, by result: fetched, present (no data was moved), failed, canceled.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "image_pull_duration_seconds",
			Help:    "How long pulls took that have ended, waiting for other downloads included, by result.",
			Buckets: []float64{0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
		}, []string{"result"}),
	}
}

// PullEnded is for images.Options.Ended.
func (m *Metrics) PullEnded(e images.Ended) {
	r := result(e)
	m.pulls.ended.WithLabelValues(r).Inc()
	m.pulls.seconds.WithLabelValues(r).Observe(e.Took.Seconds())
	if r != "canceled" {
		m.PhaseEnded(PhasePull, e.Took, e.Err)
	}
}

func result(e images.Ended) string {
	switch {
	case errors.Is(e.Err, context.Canceled):
		return "canceled"
	case e.Err != nil:
		return "failed"
	case e.Bytes == 0:
		return "present"
	}
	return "fetched"
}

// Watch adds the metrics of an image store. It must be called once.
func (m *Metrics) Watch(i Images) { m.registry.MustRegister(imageCollector{i}) }

// imageCollector looks at the store whenever it is asked.
type imageCollector struct{ images Images }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// What is known of downloads that run has the label image, the name with its tag
// or digest.
var (
	descRunning  = desc("image_pulls_in_progress", "Pulls that run, by state: waiting for other downloads, or running.", "state")
	descBytes    = desc("image_pull_progress_bytes", "What has arrived of an image that is being pulled.", "image")
	descTotal    = desc("image_pull_size_bytes", "The size of an image that is being pulled, once it is known.", "image")
	descReceived = desc("image_received_bytes_total", "What all downloads have brought, whatever became of it.")
	descImages   = desc("image_store_images", "Stored images.")
	descStore    = desc("image_store_bytes", "What the image store occupies on the disk, running downloads included.")
	descInodes   = desc("image_store_inodes", "Files, links and directories of the image store.")
)

// Describe implements prometheus.Collector.
func (c imageCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRunning, descBytes, descTotal, descReceived, descImages, descStore, descInodes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c imageCollector) Collect(ch chan<- prometheus.Metric) {
	c.collectDownloads(ch)
	ch <- prometheus.MustNewConstMetric(descReceived, prometheus.CounterValue, float64(c.images.Received()))
	if all, err := c.images.List(context.Background(), ""); err == nil {
		ch <- gauge(descImages, float64(len(all)))
	} else {
		ch <- prometheus.NewInvalidMetric(descImages, err)
	}
	info, err := c.images.FSInfo()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(descStore, err)
		return
	}
	ch <- gauge(descStore, float64(info.UsedBytes))
	ch <- gauge(descInodes, float64(info.InodesUsed))
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// collectDownloads adds up downloads of one name with several credentials:
// Prometheus wants one value for each set of labels.
func (c imageCollector) collectDownloads(ch chan<- prometheus.Metric) {
	states := map[string]int{"waiting": 0, "running": 0}
	arrived, total := map[string]int64{}, map[string]int64{}
	for _, d := range c.images.Downloads() {
		if d.Waiting {
			states["waiting"]++
			continue
		}
		states["running"]++
		arrived[d.Ref] += d.Bytes
		if d.Total >= 0 {
			total[d.Ref] += d.Total
		}
	}
	for state, n := range states {
		ch <- gauge(descRunning, float64(n), state)
	}
	for ref, n := range arrived {
		ch <- gauge(descBytes, float64(n), ref)
	}
	for ref, n := range total {
		ch <- gauge(descTotal, float64(n), ref)
	}
}
