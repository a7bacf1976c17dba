package cri

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/qemulet/qemulet/internal/cri/plain"
)

// toStatus gives an error the gRPC code of its class. kubelet decides on
// NotFound, Unimplemented, DeadlineExceeded and Unavailable, so this is the
// only place where classes become codes.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch mapped := status.Convert(errgrpc.ToGRPC(err)); {
	case mapped.Code() != codes.Unknown:
		return status.Error(mapped.Code(), plain.Text(err))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return status.Error(codes.ResourceExhausted, plain.Text(err))
	}
	return status.Error(codes.Unknown, plain.Text(err))
}

func mapErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	return resp, toStatus(err)
}

func mapStreamErrors(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return toStatus(next(srv, ss))
}

// invalid says what is wrong with a request.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), errdefs.ErrInvalidArgument)
}
