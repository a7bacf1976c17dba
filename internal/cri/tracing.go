package cri

import (
	"context"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// traced are the server's options for traces, none where they are off.
func (s *Server) traced() []grpc.ServerOption {
	if s.Traces == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(s.Traces),
		otelgrpc.WithPropagators(propagation.TraceContext{}), // what kubelet sends
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
	))}
}

// nameSpan says in the span of a call which pod and VM it is about, in
// OpenTelemetry's words.
func (s *Server) nameSpan(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	span := trace.SpanFromContext(ctx)
	if span.IsRecording() {
		span.SetAttributes(s.spanAttributes(req)...)
	}
	return next(ctx, req)
}

func (s *Server) spanAttributes(req any) []attribute.KeyValue {
	var attrs []attribute.KeyValue
	if r, ok := req.(interface{ GetContainerId() string }); ok {
		if c, err := s.Runtime.Container(r.GetContainerId()); err == nil {
			attrs = append(attrs, attribute.String("container.id", c.ID))
			attrs = append(attrs, s.podOf(c.SandboxID)...)
		}
	}
	if r, ok := req.(interface{ GetPodSandboxId() string }); ok {
		attrs = append(attrs, s.podOf(r.GetPodSandboxId())...)
	}
	if r, ok := req.(*runtimeapi.RunPodSandboxRequest); ok {
		attrs = append(attrs, podAttributes(r.GetConfig().GetMetadata())...)
	}
	if r, ok := req.(*runtimeapi.PullImageRequest); ok {
		attrs = append(attrs, attribute.String("container.image.name", r.GetImage().GetImage()))
	}
	return attrs
}

func (s *Server) podOf(sandboxID string) []attribute.KeyValue {
	sb, err := s.Runtime.Sandbox(sandboxID)
	if err != nil {
		return nil
	}
	return podAttributes(sb.Config.GetMetadata())
}

func podAttributes(m *runtimeapi.PodSandboxMetadata) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("k8s.namespace.name", m.GetNamespace()), attribute.String("k8s.pod.name", m.GetName()), attribute.String("k8s.pod.uid", m.GetUid()),
	}
}
