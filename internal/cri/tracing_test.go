package cri_test

import (
	"context"
	"errors"
	"testing"

	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/cri"
	"github.com/qemulet/qemulet/internal/images"
)

// A pull is a span of its own, below that of the call, which is a part of the
// client's trace.
func TestPullIsTraced(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	h := newHarness(t, func(o *cri.Options) { o.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)) })
	h.store.Before = func(context.Context, string, *images.Auth) error { return errors.New("unauthorised") }
	ctx := metadata.AppendToOutgoingContext(h.ctx, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	_, err := h.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/cirros"}})
	if err == nil {
		t.Error("it was pulled")
	}
	if err := h.stop(); err != nil { // the call's span ends behind its answer
		t.Fatal(err)
	}
	spans := recorder.Ended()
	if len(spans) != 2 || spans[0].Name() != "pull" || spans[0].Parent().SpanID() != spans[1].SpanContext().SpanID() {
		t.Fatalf("spans %v", spans)
	}
	if spans[0].Status().Code != otelcodes.Error || spans[1].SpanContext().TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("spans %+v", spans)
	}
}
