package images

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// rateWindow is the time over which the speed of a download is measured.
const rateWindow = time.Second

// reportInterval is how often Options.Progress hears of one download.
const reportInterval = 10 * time.Second

// progress is what Downloads tells about a running download.
type progress struct {
	report   func(Download) // Options.Progress
	received *atomic.Int64  // of the store
	interval time.Duration  // between reports

	mu       sync.Mutex
	d        Download
	since    time.Time // start of the window
	counted  int64     // bytes in the window
	reported time.Time // the last time
}

func (s *Store) newProgress(ref string, now time.Time) *progress {
	return &progress{
		report: s.opts.Progress, received: &s.received, interval: s.reportInterval,
		d: Download{Ref: ref, Waiting: true, Total: -1, Started: now}, since: now, reported: now,
	}
}

// aside is for what a download needs beside the image: it counts for the store,
// and is not told of.
func (p *progress) aside() *progress {
	return &progress{report: func(Download) {}, received: p.received, interval: math.MaxInt64}
}

func (p *progress) start(url string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d.Waiting, p.d.URL, p.since = false, url, time.Now()
}

func (p *progress) add(n int) {
	p.received.Add(int64(n))
	if d, due := p.count(n); due {
		p.report(d)
	}
}

// count tells also whether it is time for a report.
func (p *progress) count(n int) (_ Download, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d.Bytes += int64(n)
	p.counted += int64(n)
	if elapsed := time.Since(p.since); elapsed >= rateWindow {
		p.d.Rate = float64(p.counted) / elapsed.Seconds()
		p.since, p.counted = time.Now(), 0
	}
	if due = time.Since(p.reported) >= p.interval; due {
		p.reported = time.Now()
	}
	return p.d, due
}

// set corrects the number of bytes when an attempt starts over.
func (p *progress) set(bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d.Bytes = bytes
}

func (p *progress) setTotal(total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d.Total = total
}

// snapshot returns the state with a rate that also falls while nothing comes.
func (p *progress) snapshot() Download {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.d
	elapsed := time.Since(p.since)
	if elapsed >= rateWindow || d.Rate == 0 && elapsed > 0 {
		d.Rate = float64(p.counted) / elapsed.Seconds()
	}
	return d
}
