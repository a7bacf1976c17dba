package console

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// BenchmarkIdle is the memory of a VM whose guest says nothing: a Hub without
// clients and a running Log.
func BenchmarkIdle(b *testing.B) {
	const vms = 200
	for b.Loop() {
		w, err := NewWatcher()
		must(b, err)
		before, goroutines := inUse(), runtime.NumGoroutine()
		closeAll := startMany(b, w, vms)
		b.ReportMetric(float64(inUse()-before)/vms, "bytes/VM")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/vms, "goroutines/VM")
		closeAll()
		must(b, w.Close())
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC() // pools let go with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// startMany starts that many VMs' consoles, each of which has spoken once.
func startMany(b *testing.B, w *Watcher, n int) (closeAll func()) {
	dir := b.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var closers []func() error
	for i := range n {
		source := filepath.Join(dir, fmt.Sprintf("%d.log", i))
		must(b, os.WriteFile(source, []byte("hello\n"), 0o600))
		guest, nc := socketPair(b)
		h := NewHub(nc, HubOptions{})
		l, err := OpenLog(LogOptions{Source: source, Path: filepath.Join(dir, fmt.Sprintf("%d.cri", i)), Watcher: w})
		must(b, err)
		wg.Go(func() { _ = l.Run(ctx) })
		closers = append(closers, h.Close, l.Close, guest.Close)
		eventually(b, "the log", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.pos.Offset == 6
		})
	}
	return func() {
		cancel()
		wg.Wait()
		for _, c := range closers {
			must(b, c())
		}
	}
}

// BenchmarkLog is the throughput of a guest that floods.
func BenchmarkLog(b *testing.B) {
	w, err := NewWatcher()
	must(b, err)
	defer w.Close()
	dir := b.TempDir()
	text := []byte(strings.Repeat(strings.Repeat("x", 79)+"\n", 1<<10))
	source := filepath.Join(dir, "console.log")
	guest, err := os.Create(source)
	must(b, err)
	defer guest.Close()
	l, err := OpenLog(LogOptions{Source: source, Path: filepath.Join(dir, "0.log"), Watcher: w})
	must(b, err)
	defer l.Close()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, err := guest.Write(text)
		must(b, err)
		_, err = l.drain(context.Background())
		must(b, err)
		must(b, os.Truncate(filepath.Join(dir, "0.log"), 0))
	}
}
