package disks

import (
	"errors"
	"fmt"
)

// FormatError says that a file is not an intact disk image.
type FormatError struct {
	// Looks is what the file seems to be instead, with an article: "an HTML
	// page". For a qcow2 image that is broken it is "a qcow2 image".
	Looks string
	// Problem is what is wrong with it.
	Problem string
	// Truncated tells that the file ends too early.
	Truncated bool
}

// Error names what the file looks like.
func (e *FormatError) Error() string {
	if e.Problem == "" {
		return "not a qcow2 image: it looks like " + e.Looks
	}
	return fmt.Sprintf("damaged qcow2 image: %s", e.Problem)
}

// ErrRefused is what all refusals are: images that are intact, but that a
// guest's disk must not stand on. The message names the feature.
var ErrRefused = errors.New("image refused")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

func damaged(field, format string, args ...any) error {
	return &FormatError{Looks: "a qcow2 image", Problem: field + " " + fmt.Sprintf(format, args...)}
}

func truncated(format string, args ...any) error {
	return &FormatError{Looks: "a qcow2 image", Problem: "it is cut off: " + fmt.Sprintf(format, args...), Truncated: true}
}
