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

// ownTime measures operations without the plugins they run.
type ownTime struct {
	b              *testing.B
	total, plugins atomic.Int64
}

func (n *testNode) ownTime(b *testing.B) *ownTime {
	o := &ownTime{b: b}
	n.observe = func(d time.Duration) { o.plugins.Add(int64(d)) }
	b.ResetTimer()
	return o
}

func (o *ownTime) run(fn func() error) {
	start := time.Now()
	if err := fn(); err != nil {
		o.b.Fatal(err)
	}
	o.total.Add(int64(time.Since(start)))
}

func (o *ownTime) report() {
	o.b.StopTimer()
	perOp := func(d int64) float64 { return float64(d) / float64(o.b.N) / 1e6 }
	o.b.ReportMetric(perOp(o.total.Load()-o.plugins.Load()), "own-ms/op")
	o.b.ReportMetric(perOp(o.plugins.Load()), "plugins-ms/op")
}
