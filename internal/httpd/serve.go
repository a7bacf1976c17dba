// Package httpd serves HTTP whose connections may be taken over by their
// handlers, as exec, attach and port-forward do.
package httpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// readHeaderTimeout is how long a client may take to ask.
	readHeaderTimeout = 10 * time.Second
	// drainTimeout is how long handlers may take to end after their context has.
	drainTimeout = 5 * time.Second
)

// Serve answers connections on l until ctx ends, and closes l. The contexts of
// all requests end with ctx, also those of connections that were taken over;
// Serve returns when their handlers have, or after 5 seconds. It returns nil
// when ctx has ended, and otherwise why l cannot be served.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	handlers := counted{handler: h}
	server := &http.Server{
		Handler:           &handlers,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	shutdown, done := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer done()
	err := server.Shutdown(shutdown)
	if err != nil {
		err = server.Close()
	}
	<-failed
	handlers.wait(shutdown)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// counted knows when all handlers have returned; http.Server forgets those
// whose connection was taken over.
type counted struct {
	handler http.Handler
	wg      sync.WaitGroup
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.wg.Add(1)
	defer c.wg.Done()
	c.handler.ServeHTTP(w, r)
}

func (c *counted) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { c.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
