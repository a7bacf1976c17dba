package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// CreateContainer prepares the VM of a pod: its disks and seed.
func (s *Server) CreateContainer(ctx context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	if err := needID("pod_sandbox_id", req.GetPodSandboxId()); err != nil {
		return nil, err
	}
	if err := checkContainerConfig(req.GetConfig()); err != nil {
		return nil, err
	}
	id, err := s.Runtime.CreateContainer(ctx, req.GetPodSandboxId(), req.GetConfig(), req.GetSandboxConfig())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.CreateContainerResponse{ContainerId: id}, nil
}

func checkContainerConfig(cfg *runtimeapi.ContainerConfig) error {
	if err := needID("config.metadata.name", cfg.GetMetadata().GetName()); err != nil {
		return err
	}
	if err := needID("config.image.image", cfg.GetImage().GetImage()); err != nil {
		return err
	}
	for _, m := range cfg.GetMounts() {
		if err := checkMount(m); err != nil {
			return err
		}
	}
	return checkUser(cfg.GetLinux().GetSecurityContext())
}

// checkMount enforces what api.proto says about Mount.recursive_read_only.
func checkMount(m *runtimeapi.Mount) error {
	switch {
	case !m.GetRecursiveReadOnly():
		return nil
	case !m.GetReadonly():
		return invalid("mount %s: recursive_read_only needs readonly too", m.GetContainerPath())
	case m.GetPropagation() != runtimeapi.MountPropagation_PROPAGATION_PRIVATE:
		return invalid("mount %s: recursive_read_only needs the propagation PROPAGATION_PRIVATE, not %s", m.GetContainerPath(), m.GetPropagation())
	}
	return nil
}

// checkUser enforces what api.proto says about run_as_group.
func checkUser(c *runtimeapi.LinuxContainerSecurityContext) error {
	if c.GetRunAsGroup() != nil && c.GetRunAsUser() == nil && c.GetRunAsUsername() == "" {
		return invalid("linux.security_context: run_as_group needs run_as_user or run_as_username too")
	}
	return nil
}
