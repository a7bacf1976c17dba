package console

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// peakMemory samples the heap until the result is called, which is how many
// bytes it grew by at most.
func peakMemory() (stop func() uint64) {
	var base runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&base)
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		var peak uint64
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				result <- peak
				return
			case <-tick.C:
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				peak = max(peak, now.HeapAlloc-min(now.HeapAlloc, base.HeapAlloc))
			}
		}
	}()
	return func() uint64 { close(done); return <-result }
}

var droppedForm = regexp.MustCompile(`qemulet: (\d+) bytes of console output were dropped`)

// A guest that prints for ever neither grows the daemon nor, beyond the
// backlog, the disk; nothing is lost that the log does not tell of.
func TestFloodOfTheLog(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 200 MiB")
	}
	f := newFixture(t)
	f.options.MaxBacklog = 16 << 20
	l := f.open()
	f.run(l)
	text := strings.Repeat(strings.Repeat("f", 127)+"\n", 512)
	peak := peakMemory()
	const total = 200 << 20
	for n := 0; n < total; n += len(text) {
		f.says(text)
	}
	must(t, l.Finish(context.Background()))
	if grown := peak(); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if got := onDisk(t, f.options.Source); got > 1<<20 {
		t.Errorf("the source holds %d bytes on disk", got)
	}
	logged, dropped := 0, 0
	for _, l := range f.logged() {
		if m := droppedForm.FindStringSubmatch(l.text); m != nil {
			var n int
			_, err := fmt.Sscan(m[1], &n)
			must(t, err)
			dropped += n
			continue
		}
		logged += len(l.text) + 1
	}
	equal(t, logged+dropped, total)
	t.Logf("%d MiB logged, %d MiB dropped", logged>>20, dropped>>20)
}

// The same for attached clients, one of which never reads.
func TestFloodOfTheHub(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 200 MiB")
	}
	guest, h := newHub(t, HubOptions{})
	stuck := &stuckWriter{release: make(chan struct{})}
	defer close(stuck.release)
	slow := attach(h, nil, stuck)
	peak := peakMemory()
	text := []byte(strings.Repeat("f", 64<<10))
	for range (200 << 20) / len(text) {
		_, err := guest.Write(text)
		must(t, err)
	}
	if grown := peak(); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	slow.ends(t, ErrSlowClient)
}
