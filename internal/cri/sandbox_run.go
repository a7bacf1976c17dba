package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// RunPodSandbox makes a pod's network and answers when it is ready.
func (s *Server) RunPodSandbox(ctx context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	if err := checkSandboxConfig(req.GetConfig()); err != nil {
		return nil, err
	}
	id, err := s.Runtime.RunSandbox(ctx, req.GetConfig(), req.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: id}, nil
}

func checkSandboxConfig(cfg *runtimeapi.PodSandboxConfig) error {
	m := cfg.GetMetadata()
	for _, f := range []struct{ field, value string }{
		{"config.metadata.name", m.GetName()},
		{"config.metadata.namespace", m.GetNamespace()},
		{"config.metadata.uid", m.GetUid()},
	} {
		if err := needID(f.field, f.value); err != nil {
			return err
		}
	}
	return nil
}
