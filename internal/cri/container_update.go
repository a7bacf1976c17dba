package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// UpdateContainerResources changes a VM's limits while it runs. Fields that are
// zero stay as they are.
func (s *Server) UpdateContainerResources(ctx context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	if req.GetLinux() == nil {
		return nil, invalid("linux is missing: a VM has no other resources")
	}
	return &runtimeapi.UpdateContainerResourcesResponse{}, s.Runtime.UpdateResources(ctx, req.GetContainerId(), req.GetLinux())
}

// UpdatePodSandboxResources is told what the whole pod gets. Its cgroup is
// kubelet's own, and the VM is told by UpdateContainerResources, so there is
// nothing to do, and nothing to refuse.
func (s *Server) UpdatePodSandboxResources(_ context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	if err := needID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if _, err := s.Runtime.Sandbox(req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}
