package plain

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{fmt.Errorf("no agent: %w", errdefs.ErrUnavailable), "no agent"},
		{fmt.Errorf("container c: %w", errdefs.ErrNotFound), "container c: not found"},
		{errors.New("wrong:\n  one\n\n  two\n"), "wrong: one | two"},
	} {
		if got := Text(c.err); got != c.want {
			t.Errorf("%q has become %q, want %q", c.err, got, c.want)
		}
		if err := Error(c.err); err.Error() != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q has become the error %q", c.err, err)
		}
	}
	if err := Error(nil); err != nil {
		t.Errorf("no error has become %v", err)
	}
}
