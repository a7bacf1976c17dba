package cri

import (
	"context"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recoverPanics makes a panic of one call the end of that call only: a bug in
// one pod's path must not take the others' consoles and DHCP with it.
func recoverPanics(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() { err = recovered(recover(), err, info.FullMethod, log) }()
		return next(ctx, req)
	}
}

func recoverStreamPanics(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer func() { err = recovered(recover(), err, info.FullMethod, log) }()
		return next(srv, ss)
	}
}

func recovered(cause any, err error, method string, log *slog.Logger) error {
	if cause == nil {
		return err
	}
	log.Error("a call panicked, please report this", "method", method, "panic", cause, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s failed by a bug in the runtime, its log has the details: %v", method, cause)
}
