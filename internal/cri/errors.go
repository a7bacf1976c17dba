package cri

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
		return status.Error(mapped.Code(), message(err))
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return status.Error(codes.ResourceExhausted, message(err))
	}
	return status.Error(codes.Unknown, message(err))
}

// message is an error's text as people read it in a pod's events: on one line,
// because "kubectl get events" shows no other, and without the name of a class
// that the code in front of it says already. "not found" says more than that.
func message(err error) string {
	var b strings.Builder
	for line := range strings.Lines(err.Error()) {
		switch line = strings.TrimSpace(line); {
		case line == "":
			continue
		case strings.HasSuffix(b.String(), ":"):
			b.WriteString(" ")
		case b.Len() > 0:
			b.WriteString(" | ")
		}
		b.WriteString(line)
	}
	text := b.String()
	for _, class := range []error{errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable} {
		text = strings.TrimSuffix(text, ": "+class.Error())
	}
	return text
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
