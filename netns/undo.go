package netns

import (
	"context"
	"errors"
)

// undoStack collects how to take back what has been done. What is taken back first was done last.
type undoStack []func(context.Context) error

func (u *undoStack) add(fn func(context.Context) error) { *u = append(*u, fn) }

// run takes everything back, also when some of it fails.
func (u *undoStack) run(ctx context.Context) error {
	var errs []error
	for i := len(*u) - 1; i >= 0; i-- {
		errs = append(errs, (*u)[i](ctx))
	}
	*u = nil
	return errors.Join(errs...)
}
