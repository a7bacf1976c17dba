package images

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// told collects what a store tells of its pulls.
type told struct {
	mu       sync.Mutex
	progress []Download
	ended    []Ended
}

func (c *told) listen(o *Options) {
	o.Progress = func(d Download) { c.mu.Lock(); defer c.mu.Unlock(); c.progress = append(c.progress, d) }
	o.Ended = func(e Ended) { c.mu.Lock(); defer c.mu.Unlock(); c.ended = append(c.ended, e) }
}

// last waits for the nth end.
func (c *told) last(t *testing.T, n int) Ended {
	t.Helper()
	eventually(t, "the pull is told of", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.ended) == n })
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended[n-1]
}

func TestPullsAreToldOf(t *testing.T) {
	f := &files{}
	body := testImage(1, 3_000_000)
	f.set("/x", body)
	var c told
	s := testStore(t, c.listen)
	s.reportInterval = 0 // each time that something arrives
	translateAll(t, s, serve(t, f.ServeHTTP).URL)

	mustPull(t, s, "x")
	e := c.last(t, 1)
	if e.Err != nil || e.Bytes != int64(len(body)) || e.Total != e.Bytes || e.Ref != "x:latest" || e.URL == "" || e.Took <= 0 {
		t.Errorf("%+v", e)
	}
	if s.Received() != int64(len(body)) {
		t.Errorf("%d bytes received", s.Received())
	}
	c.mu.Lock()
	if len(c.progress) < 2 || c.progress[0].Bytes <= 0 || c.progress[0].Bytes > c.progress[len(c.progress)-1].Bytes {
		t.Errorf("progress: %+v", c.progress)
	}
	c.mu.Unlock()

	s.reportInterval = time.Hour
	before := len(c.progress)
	mustPull(t, s, "x")
	if e := c.last(t, 2); e.Err != nil || e.Bytes != 0 {
		t.Errorf("nothing new: %+v", e)
	}
	if _, err := s.Pull(context.Background(), "missing", nil); err == nil {
		t.Error("pulled")
	}
	if e := c.last(t, 3); e.Err == nil || errors.Is(e.Err, context.Canceled) {
		t.Errorf("failed: %+v", e)
	}
	if len(c.progress) != before {
		t.Errorf("progress is told more often than every %v", s.reportInterval)
	}
}

func TestCancelledPullIsToldOf(t *testing.T) {
	f := &files{delay: make(chan struct{})}
	f.set("/x", testImage(1, 1000))
	var c told
	s := testStore(t, c.listen)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Pull(ctx, "x", nil); err == nil {
		t.Error("pulled")
	}
	if e := c.last(t, 1); !errors.Is(e.Err, context.Canceled) {
		t.Errorf("%+v", e)
	}
}
