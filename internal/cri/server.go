package cri

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
)

const (
	// maxMessage bounds a message in bytes. kubelet takes 16 MiB; what it and
	// the proxy send is allowed more.
	maxMessage = 32 << 20
	// window is how many bytes a client may send ahead.
	window = 1 << 20
	// stopTimeout is how long running calls may take to end at a shutdown.
	stopTimeout = 5 * time.Second
)

// Options are what a Server answers from.
type Options struct {
	Runtime Runtime
	Images  Images
	Streams Streams
	Log     *slog.Logger
	// Version is the runtime's own, in the form of semver.org.
	Version string
	// Handlers are the RuntimeClass handlers that RunSandbox accepts.
	Handlers []string
	// CgroupDriver is how kubelet shall name cgroups. It must not change
	// while pods exist.
	CgroupDriver runtimeapi.CgroupDriver
	// Info is what a verbose Status adds: JSON values by name.
	Info func() map[string]string
	// Requested, if set, is told of each call that was answered: its method,
	// the gRPC code and how long it took.
	Requested func(method, code string, took time.Duration)
	// Traces, if set, makes spans of calls, below those that clients tell of.
	Traces trace.TracerProvider
	// Pulled, if set, is told of each image that was pulled for a pod, by the
	// name that was asked for.
	Pulled func(pod *runtimeapi.PodSandboxMetadata, name string, img images.Image)
	// Panicked, if set, is told of each call that ended in a panic.
	Panicked func()
}

// Server is both services of CRI. Its methods may be called concurrently.
type Server struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	Options
}

// New makes a Server.
func New(o Options) *Server { return &Server{Options: o} }

// Serve answers gRPC on l until ctx ends, and closes l. Running calls get five
// seconds to end before their contexts do. It returns nil when ctx has ended,
// and otherwise why l cannot be served.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer(append(s.traced(),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		// A fixed window: gRPC would measure with a ping per request how large it should be.
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.ChainUnaryInterceptor(s.countCalls, s.nameSpan, s.logCalls, mapErrors, s.recoverPanics),
		grpc.ChainStreamInterceptor(mapStreamErrors, s.recoverStreamPanics),
		// A client may ask whether we live as often as it likes.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{PermitWithoutStream: true}),
	)...)
	runtimeapi.RegisterRuntimeServiceServer(server, s)
	runtimeapi.RegisterImageServiceServer(server, s)
	alive := health.NewServer()
	healthapi.RegisterHealthServer(server, alive)

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	alive.Shutdown()
	stop(server)
	if err := <-failed; !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

func stop(server *grpc.Server) {
	late := time.AfterFunc(stopTimeout, server.Stop)
	defer late.Stop()
	server.GracefulStop()
}
