package cri

import (
	"context"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// GetContainerEvents tells of changes from now on, each with the state of its
// pod at the time of telling. kubelet drops events without one.
func (s *Server) GetContainerEvents(_ *runtimeapi.GetEventsRequest, stream grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	err := s.Runtime.Events(stream.Context(), func(e runtime.Event) error {
		return stream.Send(s.containerEvent(stream.Context(), e))
	})
	if stream.Context().Err() != nil {
		return nil
	}
	return err
}

func (s *Server) containerEvent(ctx context.Context, e runtime.Event) *runtimeapi.ContainerEventResponse {
	event := &runtimeapi.ContainerEventResponse{
		ContainerId: e.ID, ContainerEventType: e.Type, CreatedAt: e.Time.UnixNano(),
		// What is left to say of a pod that is gone by now.
		PodSandboxStatus: &runtimeapi.PodSandboxStatus{Id: e.SandboxID, Metadata: e.Metadata, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY},
	}
	sb, err := s.Runtime.Sandbox(e.SandboxID)
	if err != nil {
		return event
	}
	event.PodSandboxStatus = sandboxStatus(sb)
	for _, c := range s.Runtime.Containers() {
		if c.SandboxID == e.SandboxID {
			status := containerStatus(c)
			status.Image, status.ImageRef = s.imageOf(ctx, c)
			event.ContainersStatuses = append(event.ContainersStatuses, status)
		}
	}
	return event
}

func (s *Server) now() int64 { return time.Now().UnixNano() }
