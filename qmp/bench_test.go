package qmp

import (
	"runtime"
	"testing"

	"github.com/qemulet/qemulet/qmp/qmptest"
)

// BenchmarkDo is one command and its reply over a unix socket.
func BenchmarkDo(b *testing.B) {
	c := served(b, qmptest.Script{"query-status": Status{Running: true, Status: RunStateRunning}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.QueryStatus(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdleMemory reports what an idle connection with a subscription and a
// multiplexer without clients keeps in memory, stacks included.
func BenchmarkIdleMemory(b *testing.B) {
	const conns = 100
	for b.Loop() {
		var all []*Conn
		for range conns {
			c, _ := negotiated(b)
			all = append(all, c)
			c.Subscribe(16, nil)
			NewMux(c, MuxOptions{})
		}
		before := inUse()
		for _, c := range all {
			c.Close()
		}
		clear(all)
		b.ReportMetric(float64(before-inUse())/conns, "bytes/conn")
	}
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
