package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ExecSync cannot run anything in a guest without an agent. It is important
// that this is an error and not an exit code: kubelet takes an error for "not
// known" and an exit code for a failed probe, which kills the VM.
func (s *Server) ExecSync(_ context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	return nil, s.noExec(req.GetContainerId())
}

// Exec cannot run anything in a guest either.
func (s *Server) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return nil, s.noExec(req.GetContainerId())
}

func (s *Server) noExec(id string) error {
	if err := needID("container_id", id); err != nil {
		return err
	}
	c, err := s.Runtime.Container(id)
	if err != nil {
		return err
	}
	return fmt.Errorf("container %s is a virtual machine, in which no command can be run from outside: "+
		"use attach for its console, port-forward or ssh; for probes use httpGet, tcpSocket or grpc: %w", c.ID, errdefs.ErrNotImplemented)
}
