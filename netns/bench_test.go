package netns

import (
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkSetup measures what Setup takes besides the plugins' own time. Run it with -benchtime of up to 200x: the pods
// live at the same time, and the kernel's work on namespaces that are going away is not measured.
func BenchmarkSetup(b *testing.B) {
	n := newNode(b, bridgeNet())
	own := n.ownTime(b)
	for i := range b.N {
		own.run(func() error {
			_, err := n.Setup(b.Context(), testPod(i))
			return err
		})
	}
	own.report()
	for i := range b.N {
		n.teardown(testPod(i))
	}
}

// BenchmarkTeardown measures the same of Teardown.
func BenchmarkTeardown(b *testing.B) {
	n := newNode(b, bridgeNet())
	for i := range b.N {
		if _, err := n.Setup(b.Context(), testPod(i)); err != nil {
			b.Fatal(err)
		}
	}
	own := n.ownTime(b)
	for i := range b.N {
		own.run(func() error { return n.Teardown(b.Context(), testPod(i)) })
	}
	own.report()
}

// ownTime measures operations without the plugins they run. Medians count: the machine's other work is in some of them.
type ownTime struct {
	b           *testing.B
	running     atomic.Int64 // plugins, of the operation
	own, plugin []float64    // milliseconds
}

func (n *testNode) ownTime(b *testing.B) *ownTime {
	o := &ownTime{b: b}
	n.observe = func(d time.Duration) { o.running.Add(int64(d)) }
	b.ResetTimer()
	return o
}

func (o *ownTime) run(fn func() error) {
	o.running.Store(0)
	start := time.Now()
	if err := fn(); err != nil {
		o.b.Fatal(err)
	}
	total, plugins := time.Since(start), time.Duration(o.running.Load())
	o.own = append(o.own, (total-plugins).Seconds()*1000)
	o.plugin = append(o.plugin, plugins.Seconds()*1000)
}

func (o *ownTime) report() {
	o.b.StopTimer()
	o.b.ReportMetric(median(o.own), "own-ms/op")
	o.b.ReportMetric(median(o.plugin), "plugins-ms/op")
}
