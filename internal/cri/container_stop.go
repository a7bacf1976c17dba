package cri

import (
	"context"
	"math"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// StopContainer presses the guest's power button and ends the VM by force
// after the timeout, in seconds. It answers when the VM is dead, may be
// repeated, and an unknown id is no error.
func (s *Server) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	return &runtimeapi.StopContainerResponse{}, s.Runtime.StopContainer(ctx, req.GetContainerId(), grace(req.GetTimeout()))
}

// grace keeps what a request says within what a Duration can.
func grace(seconds int64) time.Duration {
	const longest = math.MaxInt64 / int64(time.Second)
	return time.Duration(min(max(seconds, 0), longest)) * time.Second
}
