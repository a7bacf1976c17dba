package cri

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// Attach returns a URL that connects to a running VM's serial console.
//
// api.proto allows no stderr with a terminal. But kubelet asks for a terminal
// whenever the container has one, also for a client that has none, such as
// "kubectl attach" without -i or in a pipe. Such a client asks for stderr, which
// one with a terminal never does, and opens the streams of one without.
func (s *Server) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	c, err := s.Runtime.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := checkAttach(c, req); err != nil {
		return nil, err
	}
	return s.Streams.Attach(&runtimeapi.AttachRequest{
		ContainerId: c.ID, Stdin: req.GetStdin(), Stdout: req.GetStdout(), Stderr: req.GetStderr(), Tty: req.GetTty() && !req.GetStderr(),
	})
}

// checkAttach demands a terminal only of a container that was created with
// one, as api.proto says. Watching without one is always possible.
func checkAttach(c runtime.Container, req *runtimeapi.AttachRequest) error {
	if c.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return fmt.Errorf("container %s is %s, only a running one has a console: %w", c.ID, c.State, errdefs.ErrFailedPrecondition)
	}
	if req.GetTty() && !c.Config.GetTty() {
		return invalid("container %s was created without a terminal: attach without tty, or set tty: true in its spec", c.ID)
	}
	return nil
}
