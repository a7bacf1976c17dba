package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/qemulet/qemulet/internal/criproxy"
)

var errUnwell = errors.New("not all is well, see above")

// doctorLimit bounds the examination.
const doctorLimit = 20 * time.Second

func doctor(ctx context.Context, o *options, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	well := true
	for _, f := range criproxy.Examine(ctx, criproxy.Examination{Proxy: o.listen, Primary: o.primary, VM: o.vm, Handlers: o.handlers}) {
		mark := "ok  "
		if !f.OK {
			mark, well = "BAD ", false
		}
		fmt.Fprintln(out, mark, f.Text)
		if f.Advice != "" {
			fmt.Fprintln(out, "      ->", f.Advice)
		}
	}
	if !well {
		return errUnwell
	}
	return nil
}
