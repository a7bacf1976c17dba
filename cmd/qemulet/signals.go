package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal returns a context that ends with the first signal; the second
// ends the process at once.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// wishes are what a person says by signals: the first asks for an end in good
// order, the second for one at once, and the third is the system's to answer.
// A hangup asks once only, since a terminal that is closed sends several.
type wishes struct {
	signals chan os.Signal
	end     chan struct{} // closed by the first
	force   context.CancelFunc
	done    chan struct{}
}

// hearWishes returns a context that ends with the second signal. The caller
// calls stop.
func hearWishes(ctx context.Context) (context.Context, *wishes) {
	ctx, cancel := context.WithCancel(ctx)
	w := &wishes{signals: make(chan os.Signal, 8), end: make(chan struct{}), force: cancel, done: make(chan struct{})}
	// Whoever reads our output may leave: that must be an error of a write,
	// not the end of the process.
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(w.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go w.hear()
	return ctx, w
}

func (w *wishes) hear() {
	defer close(w.done)
	asked := false
	for s := range w.signals {
		switch {
		case !asked:
			asked = true
			close(w.end)
		case s == syscall.SIGHUP:
		default:
			w.force()
			signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		}
	}
}

func (w *wishes) stop() {
	signal.Stop(w.signals)
	close(w.signals)
	<-w.done
	w.force()
}
