package runtime

import (
	"context"
	"fmt"
)

// lock is a mutex that can be waited for with a context.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) acquire(ctx context.Context, what string) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s is busy with another operation: %w", what, context.Cause(ctx))
	}
}

// mustAcquire is for the end of a VM, which has no request to time out.
func (l lock) mustAcquire() { l <- struct{}{} }

func (l lock) release() { <-l }
