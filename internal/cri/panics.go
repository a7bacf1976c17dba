package cri

import (
	"context"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// recoverPanics makes a panic of one call the end of that call only: a bug in
// one pod's path must not take the others' consoles and DHCP with it.
func (s *Server) recoverPanics(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() { err = s.recovered(recover(), err, info.FullMethod) }()
	return next(ctx, req)
}

func (s *Server) recoverStreamPanics(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() { err = s.recovered(recover(), err, info.FullMethod) }()
	return next(srv, ss)
}

func (s *Server) recovered(cause any, err error, method string) error {
	if cause == nil {
		return err
	}
	if s.Panicked != nil {
		s.Panicked()
	}
	s.Log.Error("a call panicked, please report this", "method", method, "panic", cause, "stack", string(debug.Stack()))
	return status.Errorf(codes.Internal, "%s failed by a bug in the runtime, its log has the details: %v", method, cause)
}
