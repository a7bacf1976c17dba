// Package plain is how errors are told to people, in a pod's events and by
// kubectl.
package plain

import (
	"strings"

	"github.com/containerd/errdefs"
)

// Text is an error's text on one line, because "kubectl get events" shows no
// other, and without the name of a class at its end: a code in front of it says
// that already, or it says nothing to people. "not found" says more than that.
func Text(err error) string {
	var b strings.Builder
	for line := range strings.Lines(err.Error()) {
		switch line = strings.TrimSpace(line); {
		case line == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteString(" ")
		case b.Len() > 0:
			b.WriteString(" | ")
		}
		b.WriteString(line)
	}
	text := b.String()
	for _, class := range []error{errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable} {
		text = strings.TrimSuffix(text, ": "+class.Error())
	}
	return text
}

// Error is the same error with that text; nil stays nil.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return plainError{err}
}

type plainError struct{ error }

func (e plainError) Error() string { return Text(e.error) }

func (e plainError) Unwrap() error { return e.error }
