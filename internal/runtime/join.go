package runtime

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// operations runs each operation in a goroutine of its own, detached from
// the request, and lets later requests for the same thing join it.
type operations struct {
	// onPanic is told of a defect, with the stack; nil tells nobody.
	onPanic func(key string, p any, stack []byte)

	mu      sync.Mutex
	running map[string]*operation
	closed  bool
	wg      sync.WaitGroup
}

type operation struct {
	done chan struct{}
	id   string
	err  error
}

// join runs do under key, or waits for the one that runs already. The
// operation gets a context that keeps the request's values and ends after
// limit; the wait ends with ctx, the operation does not.
func (o *operations) join(ctx context.Context, key string, limit time.Duration, do func(context.Context) (string, error)) (string, error) {
	op, err := o.enter(ctx, key, limit, do)
	if err != nil {
		return "", err
	}
	select {
	case <-op.done:
		return op.id, op.err
	case <-ctx.Done():
		return "", fmt.Errorf("%s goes on in the background: %w", key, context.Cause(ctx))
	}
}

func (o *operations) enter(ctx context.Context, key string, limit time.Duration, do func(context.Context) (string, error)) (*operation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if op := o.running[key]; op != nil {
		return op, nil
	}
	if o.closed {
		return nil, fmt.Errorf("%s: the daemon is shutting down: %w", key, errUnavailable)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.running == nil {
		o.running = map[string]*operation{}
	}
	op := &operation{done: make(chan struct{})}
	o.running[key] = op
	o.wg.Add(1)
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	go func() {
		defer o.wg.Done()
		defer cancel()
		op.id, op.err = o.guarded(detached, key, do)
		o.mu.Lock()
		delete(o.running, key)
		o.mu.Unlock()
		close(op.done)
	}()
	return op, nil
}

// guarded turns a panic into an error of this one operation: the other pods'
// daemon lives on, and recovery is for what was left.
func (o *operations) guarded(ctx context.Context, key string, do func(context.Context) (string, error)) (id string, err error) {
	defer func() {
		if p := recover(); p != nil {
			if o.onPanic != nil {
				o.onPanic(key, p, debug.Stack())
			}
			id, err = "", fmt.Errorf("%s: a defect of the daemon, its log has the details: %w", key, errdefs.ErrInternal)
		}
	}()
	return do(ctx)
}

// drain refuses new operations and waits for the running ones, at most until
// ctx ends. What is cut off then is what recovery is for.
func (o *operations) drain(ctx context.Context) {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	done := make(chan struct{})
	go func() { o.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
