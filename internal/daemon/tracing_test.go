package daemon_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// spans is a collector of OpenTelemetry.
type spans struct {
	collector.UnimplementedTraceServiceServer
	mu       sync.Mutex
	got      []*otlp.Span
	resource []*common.KeyValue
}

func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.ResourceSpans {
		s.resource = r.Resource.Attributes
		for _, scope := range r.ScopeSpans {
			s.got = append(s.got, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func collect(t *testing.T) (*spans, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, server := &spans{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return s, l.Addr().String()
}

func attribute(all []*common.KeyValue, key string) string {
	for _, kv := range all {
		if kv.Key == key {
			return kv.Value.GetStringValue()
		}
	}
	return ""
}

const (
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID = "00f067aa0ba902b7"
)

// runSandbox calls RunPodSandbox as kubelet does that traces, or not.
func runSandbox(t *testing.T, socket, flags string) error {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", fmt.Sprintf("00-%s-%s-%s", traceID, parentID, flags))
	_, err = runtimeapi.NewRuntimeServiceClient(conn).RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: "vm", Namespace: "shop", Uid: "u-1"},
	}})
	return err
}

// A call that kubelet traces is a part of kubelet's trace, and what it does is a
// part of it.
func TestTracesJoinKubelets(t *testing.T) {
	s, address := collect(t)
	cfg := settings(t)
	cfg.TracingEndpoint, cfg.NodeName = address, "node-1"
	stop := start(t, cfg)
	if err := runSandbox(t, cfg.CRISocket, "01"); err == nil {
		t.Error("a sandbox without QEMU")
	}
	if err := stop(); err != nil { // sends what is left
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := map[string]*otlp.Span{}
	for _, span := range s.got {
		byName[span.Name] = span
	}
	call, phase := byName["runtime.v1.RuntimeService/RunPodSandbox"], byName["sandbox"]
	if len(s.got) != 2 || call == nil || phase == nil {
		t.Fatalf("spans: %v", s.got)
	}
	for _, span := range s.got {
		if got := hex.EncodeToString(span.TraceId); got != traceID {
			t.Errorf("%s is of the trace %s", span.Name, got)
		}
	}
	if got := hex.EncodeToString(call.ParentSpanId); got != parentID {
		t.Errorf("the call's parent is %s", got)
	}
	if string(phase.ParentSpanId) != string(call.SpanId) || phase.Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("the phase: %v", phase)
	}
	if attribute(call.Attributes, "k8s.namespace.name") != "shop" || attribute(call.Attributes, "k8s.pod.uid") != "u-1" {
		t.Errorf("attributes of the call: %v", call.Attributes)
	}
	if attribute(s.resource, "service.name") != "qemulet" || attribute(s.resource, "k8s.node.name") != "node-1" {
		t.Errorf("resource: %v", s.resource)
	}
}

// What kubelet does not trace is not traced, unless the rate says so.
func TestSamplingRate(t *testing.T) {
	for _, c := range []struct{ rate, want int }{{0, 0}, {1_000_000, 1}} {
		s, address := collect(t)
		cfg := settings(t)
		cfg.TracingEndpoint, cfg.TracingSamplingRate = address, c.rate
		stop := start(t, cfg)
		_ = runSandbox(t, cfg.CRISocket, "00") // kubelet decided against it
		conn, err := grpc.NewClient("unix://"+cfg.CRISocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := runtimeapi.NewRuntimeServiceClient(conn).Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := stop(); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		if len(s.got) != c.want {
			t.Errorf("at a rate of %d there are %d spans, not %d", c.rate, len(s.got), c.want)
		}
		s.mu.Unlock()
	}
}

// A collector that is not there delays nothing.
func TestCollectorIsAway(t *testing.T) {
	cfg := settings(t)
	cfg.TracingEndpoint = "127.0.0.1:1"
	stop := start(t, cfg)
	begin := time.Now()
	_ = runSandbox(t, cfg.CRISocket, "01")
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("a call took %v", took)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// The metrics' own address serves them and nothing else.
func TestMetricsAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := settings(t)
	cfg.MetricsAddress = l.Addr().String()
	if err := refused(cfg); err == nil {
		t.Error("the address is in use, and nobody minds")
	}
	l.Close()
	stop := start(t, cfg)
	defer http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]int{"/metrics": 200, "/v1/images": 404, "/attach/x": 404, "/": 404} {
		resp, err := http.Get("http://" + cfg.MetricsAddress + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d instead of %d: %s", path, resp.StatusCode, want, body)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
