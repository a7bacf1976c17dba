package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/qemulet/qemulet/internal/config"
	"github.com/qemulet/qemulet/internal/version"
)

// perMillion is what the setting tracing-sampling-rate counts in, as kubelet's does.
const perMillion = 1_000_000

// traces makes spans and sends them to a collector.
type traces struct {
	*sdktrace.TracerProvider
	exporter *otlptrace.Exporter
}

// openTraces returns nil when no traces are wanted. Nobody waits for the
// collector: what it does not take is dropped.
func openTraces(ctx context.Context, cfg *config.Config, log *slog.Logger) (*traces, error) {
	if cfg.TracingEndpoint == "" {
		return nil, nil
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(cfg.TracingEndpoint), otlptracegrpc.WithInsecure())
	if err != nil {
		return nil, fmt.Errorf("tracing-endpoint %s: %w", cfg.TracingEndpoint, err)
	}
	otel.SetErrorHandler(&quiet{log: log})
	return &traces{exporter: exporter, TracerProvider: sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewWithAttributes(semconv.SchemaURL,
			semconv.ServiceName("qemulet"), semconv.ServiceVersion(version.Number()), semconv.K8SNodeName(cfg.NodeName))),
		// What kubelet traces is traced here too.
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(float64(cfg.TracingSamplingRate)/perMillion))),
	)}, nil
}

// close sends what is left, as far as the collector takes it.
func (t *traces) close() {
	ctx, cancel := context.WithTimeout(context.Background(), tracesTimeout)
	defer cancel()
	if t.Shutdown(ctx) != nil {
		_ = t.exporter.Shutdown(ctx) // which ends what still tries
	}
}

// provider is nil when there are none.
func (t *traces) provider() trace.TracerProvider {
	if t == nil {
		return nil
	}
	return t
}

// quiet logs what is wrong with the sending of traces, once a minute at most.
type quiet struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler.
func (q *quiet) Handle(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.last) < time.Minute {
		return
	}
	q.last = time.Now()
	q.log.Warn("traces cannot be sent", "error", err)
}
