package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync runs a program in the guest, by its guest agent. Without an agent it
// is important that there is an error and no exit code: kubelet takes an error
// for "not known" and an exit code for a failed probe, which kills the VM. The
// end of the time is DeadlineExceeded, which is a failed probe too.
//
// A guest that boots gets time for its agent: as much as the program may take
// beside, and without a limit as long as guests boot. kubelet calls a hook right
// after the start, once, and kills the VM if that fails.
func (s *Server) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if err := s.awaitAgent(ctx, req); err != nil {
		return nil, err
	}
	ctx, cancel := limited(ctx, req)
	defer cancel()
	out, err := s.Runtime.Exec(ctx, req.GetContainerId(), req.GetCmd(), nil)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ExecSyncResponse{ExitCode: out.ExitCode, Stdout: out.Stdout, Stderr: out.Stderr}, nil
}

func (s *Server) awaitAgent(ctx context.Context, req *runtimeapi.ExecSyncRequest) error {
	ctx, cancel := limited(ctx, req)
	defer cancel()
	return s.Runtime.AwaitAgent(ctx, req.GetContainerId())
}

// limited ends with the time that a request allows.
func limited(ctx context.Context, req *runtimeapi.ExecSyncRequest) (context.Context, context.CancelFunc) {
	if req.GetTimeout() <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Duration(req.GetTimeout())*time.Second)
}

// Exec returns a URL for a session that runs a program in the guest.
func (s *Server) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if req.GetTty() {
		return nil, invalid("tty: a guest agent has no terminals: leave out -t, use attach for the console, or ssh")
	}
	if _, err := s.Runtime.Container(req.GetContainerId()); err != nil {
		return nil, err
	}
	return s.Streams.Exec(req)
}
