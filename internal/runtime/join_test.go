package runtime

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
)

func TestJoinSharesOneRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	var o operations
	var runs atomic.Int32
	gate := make(chan struct{})
	do := func(context.Context) (string, error) {
		runs.Add(1)
		<-gate
		return "id", nil
	}
	results := make(chan string, 3)
	for range 3 {
		go func() {
			id, err := o.join(t.Context(), "k", time.Minute, do)
			if err != nil {
				id = err.Error()
			}
			results <- id
		}()
	}
	// All three wait: either they run it or they have joined it.
	for runs.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(gate)
	for range 3 {
		if got := <-results; got != "id" {
			t.Errorf("join returned %q", got)
		}
	}
	o.drain(t.Context())
}

func TestOperationOutlivesItsClient(t *testing.T) {
	defer goleak.VerifyNone(t)
	var o operations
	gate := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	do := func(ctx context.Context) (string, error) {
		cancel()
		<-gate
		return "late", ctx.Err()
	}
	if _, err := o.join(ctx, "k", time.Minute, do); !errors.Is(err, context.Canceled) {
		t.Fatalf("the client that went away got %v", err)
	}
	again := make(chan string)
	go func() {
		id, err := o.join(t.Context(), "k", time.Minute, func(context.Context) (string, error) { return "second run", nil })
		if err != nil {
			id = err.Error()
		}
		again <- id
	}()
	select {
	case id := <-again:
		t.Fatalf("the second request did not join: %q", id)
	case <-time.After(20 * time.Millisecond):
	}
	close(gate)
	if id := <-again; id != "late" {
		t.Errorf("the second request got %q", id)
	}
	o.drain(t.Context())
	if _, err := o.join(t.Context(), "k", time.Minute, do); !errdefs.IsUnavailable(err) {
		t.Errorf("after drain: %v", err)
	}
}

func TestOperationIsBounded(t *testing.T) {
	defer goleak.VerifyNone(t)
	var o operations
	_, err := o.join(t.Context(), "k", time.Millisecond, func(ctx context.Context) (string, error) {
		<-ctx.Done()
		return "", context.Cause(ctx)
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPanicIsOneOperationsError(t *testing.T) {
	defer goleak.VerifyNone(t)
	var told any
	o := operations{onPanic: func(_ string, p any, _ []byte) { told = p }}
	_, err := o.join(t.Context(), "start container x", time.Minute, func(context.Context) (string, error) { panic("oops") })
	if !errdefs.IsInternal(err) || !strings.Contains(err.Error(), "start container x") || told != "oops" {
		t.Errorf("got %v, told %v", err, told)
	}
}

func TestLockHonoursContext(t *testing.T) {
	l := newLock()
	if err := l.acquire(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := l.acquire(ctx, "sandbox x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	l.release()
	l.mustAcquire()
	l.release()
}
