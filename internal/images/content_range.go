package images

import (
	"fmt"
	"strconv"
	"strings"
)

// badRange is a broken answer to a request for the rest of a file.
type badRange struct{ text string }

func (e *badRange) Error() string { return e.text }

// parseContentRange parses "bytes 5-9/10"; the total is -1 for "*".
func parseContentRange(s string) (from, total int64, _ error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, length, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, fmt.Errorf("content range %q", s)
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	to, err := strconv.ParseInt(last, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	total = -1
	if length != "*" {
		if total, err = strconv.ParseInt(length, 10, 64); err != nil {
			return 0, 0, err
		}
	}
	if from < 0 || to < from || total >= 0 && to >= total {
		return 0, 0, fmt.Errorf("content range %q", s)
	}
	return from, total, nil
}
