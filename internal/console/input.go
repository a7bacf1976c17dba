package console

import (
	"context"
	"errors"
	"os"
	"time"
)

// typeSlice is how long one client may hold the right to type while the guest
// does not read.
const typeSlice = 100 * time.Millisecond

// typeBytes writes p to the guest. While the guest does not read (QEMU then
// does not take bytes from the line), it waits, in turns with other typing
// clients. It is false when p was not written because ctx or the console ended.
func (h *Hub) typeBytes(ctx context.Context, p []byte) bool {
	for len(p) > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-h.done:
			return false
		case <-h.typing:
		}
		n, err := h.typeTurn(p)
		h.typing <- struct{}{}
		p = p[n:]
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return false // the reader notices the same, and ends the Hub
		}
	}
	return true
}

func (h *Hub) typeTurn(p []byte) (int, error) {
	if err := h.term.SetWriteDeadline(time.Now().Add(typeSlice)); err != nil {
		return 0, err
	}
	return h.term.Write(p)
}
