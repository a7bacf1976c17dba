package watchdog

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// systemd listens as systemd does, and wants pings within the limit.
func systemd(t *testing.T, limit time.Duration) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(limit.Microseconds(), 10))
	return l
}

func next(t *testing.T, l *net.UnixConn, patience time.Duration) (string, error) {
	t.Helper()
	b := make([]byte, 100)
	if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := l.Read(b)
	return string(b[:n]), err
}

func run(t *testing.T, well func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, well, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestPingsWhileWell(t *testing.T) {
	l := systemd(t, 60*time.Millisecond)
	answers := make(chan error, 3)
	answers <- nil
	answers <- nil
	run(t, func(ctx context.Context) error {
		select {
		case err := <-answers:
			return err
		case <-ctx.Done(): // it hangs
			return ctx.Err()
		}
	})
	for range 2 {
		if got, err := next(t, l, 10*time.Second); err != nil || got != "WATCHDOG=1" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	answers <- errors.New("ill")
	if got, err := next(t, l, 200*time.Millisecond); err == nil {
		t.Errorf("%q although it is not well", got)
	}
}

func TestWithoutWatchdog(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	run(t, func(context.Context) error { t.Error("asked"); return nil })
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := Socket(path, nil)(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("nobody there: %v", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server, alive := grpc.NewServer(), health.NewServer()
	healthapi.RegisterHealthServer(server, alive)
	go server.Serve(l)
	defer server.Stop()
	ill := errors.New("ill")
	if err := Socket(path, nil)(t.Context()); err != nil {
		t.Error(err)
	}
	if err := Socket(path, func(context.Context, *grpc.ClientConn) error { return ill })(t.Context()); !errors.Is(err, ill) {
		t.Errorf("got %v", err)
	}
	alive.SetServingStatus("", healthapi.HealthCheckResponse_NOT_SERVING)
	if err := Socket(path, nil)(t.Context()); err == nil || !strings.Contains(err.Error(), "NOT_SERVING") {
		t.Errorf("got %v", err)
	}
}
