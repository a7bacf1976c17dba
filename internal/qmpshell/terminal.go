package qmpshell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"

	"github.com/qemulet/qemulet/qmp"
)

// Interact is a shell at a terminal, which the caller has put into raw mode: with
// history, kept for this session only, for commands may carry secrets, and with
// completion. It returns when the person leaves or the connection ends; then in may
// still be read from.
func Interact(ctx context.Context, conn *qmp.Conn, in io.Reader, out io.Writer, prompt string, width, height int) error {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, prompt)
	if width <= 0 || height <= 0 { // a terminal that does not know
		width, height = 80, 24
	}
	_ = t.SetSize(width, height) // it tells only that the prompt could not be drawn anew
	s, err := New(ctx, conn, t)
	if err != nil {
		return err
	}
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		line, pos, choices := s.schema.extend(line, pos)
		if len(choices) > 0 {
			_, _ = io.WriteString(t, columns(choices, width))
		}
		return line, pos, true
	}
	ended := make(chan error, 1)
	go func() {
		ended <- s.loop(ctx, t.ReadLine, func(err error) { fmt.Fprintf(t, "%v\n", err) })
	}()
	select {
	case err = <-ended:
	case <-conn.Done():
		err = conn.Err()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if errors.Is(err, qmp.ErrClosed) {
		return nil
	}
	return err
}

// columns lays words out in as many columns as fit.
func columns(words []string, width int) string {
	longest := 0
	for _, w := range words {
		longest = max(longest, len(w))
	}
	across := max(1, width/(longest+2))
	var b strings.Builder
	for i, w := range words {
		b.WriteString(w)
		if (i+1)%across == 0 || i == len(words)-1 {
			b.WriteByte('\n')
			continue
		}
		b.WriteString(strings.Repeat(" ", longest+2-len(w)))
	}
	return b.String()
}
