// Package watchdog tells systemd's watchdog that a daemon is well, as long as it
// answers on its own socket. One that no longer does is killed by systemd, and
// started again.
package watchdog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
)

// Run pings systemd until ctx ends, each time that well has returned nil: it looks
// three times within the unit's WatchdogSec, so that one slow answer is no harm.
// Where systemd does not wait for pings it returns when ctx ends.
func Run(ctx context.Context, well func(context.Context) error, log *slog.Logger) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog", "error", err)
	}
	if limit > 0 {
		ping(ctx, limit/3, well, log)
	}
	<-ctx.Done()
	return nil
}

func ping(ctx context.Context, every time.Duration, well func(context.Context) error, log *slog.Logger) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := bounded(ctx, every, well); err == nil {
			_, err = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			if err != nil {
				log.Warn("systemd's watchdog", "error", err)
			}
		} else if ctx.Err() == nil {
			log.Error("the daemon does not answer itself; if that goes on, systemd starts it again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func bounded(ctx context.Context, limit time.Duration, well func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return well(ctx)
}

// Socket returns a question for Run: does the gRPC server on a unix socket answer
// that it serves, and what more does one ask it? more may be nil.
func Socket(path string, more func(context.Context, *grpc.ClientConn) error) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err := healthapi.NewHealthClient(conn).Check(ctx, &healthapi.HealthCheckRequest{})
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case answer.Status != healthapi.HealthCheckResponse_SERVING:
			return fmt.Errorf("%s: %s", path, answer.Status)
		case more != nil:
			return more(ctx, conn)
		}
		return nil
	}
}
