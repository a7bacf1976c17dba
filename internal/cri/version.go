package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// kubeletAPIVersion is what kubelet insists on.
	kubeletAPIVersion = "0.1.0"
	runtimeName       = "qemulet"
	runtimeAPIVersion = "v1"
)

// Version says who answers, and which API is spoken.
func (s *Server) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version:           kubeletAPIVersion,
		RuntimeName:       runtimeName,
		RuntimeVersion:    s.Options.Version,
		RuntimeApiVersion: runtimeAPIVersion,
	}, nil
}
