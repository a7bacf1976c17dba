package cri

import (
	"context"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// ContainerStatus describes a VM; NotFound when there is none.
func (s *Server) ContainerStatus(ctx context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	if err := needID("container_id", req.GetContainerId()); err != nil {
		return nil, err
	}
	c, err := s.Runtime.Container(req.GetContainerId())
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ContainerStatusResponse{Status: containerStatus(c)}
	resp.Status.Image, resp.Status.ImageRef = s.imageOf(ctx, c)
	if req.GetVerbose() {
		resp.Info, err = s.Runtime.ContainerInfo(c.ID)
	}
	return resp, err
}

func containerStatus(c runtime.Container) *runtimeapi.ContainerStatus {
	status := &runtimeapi.ContainerStatus{
		Id:          c.ID,
		Metadata:    c.Config.GetMetadata(),
		State:       c.State,
		CreatedAt:   c.CreatedAt.UnixNano(),
		StartedAt:   nanos(c.StartedAt),
		FinishedAt:  nanos(c.FinishedAt),
		ExitCode:    c.ExitCode,
		ImageId:     c.ImageID,
		Reason:      c.Reason,
		Message:     c.Message,
		Labels:      c.Config.GetLabels(),
		Annotations: c.Config.GetAnnotations(),
		Mounts:      c.Config.GetMounts(),
		LogPath:     c.LogPath,
	}
	if c.Resources != nil {
		status.Resources = &runtimeapi.ContainerResources{Linux: c.Resources}
	}
	return status
}

// imageOf tells the image by the name that people know, and by its content's
// digest. Both fall back to what the container was created with, because an
// image can be removed while a VM stands on it.
func (s *Server) imageOf(ctx context.Context, c runtime.Container) (*runtimeapi.ImageSpec, string) {
	asked := c.Config.GetImage()
	spec := &runtimeapi.ImageSpec{
		Image:              asked.GetImage(),
		UserSpecifiedImage: asked.GetUserSpecifiedImage(),
		Annotations:        asked.GetAnnotations(),
		RuntimeHandler:     asked.GetRuntimeHandler(),
	}
	if spec.UserSpecifiedImage != "" {
		spec.Image = spec.UserSpecifiedImage
	}
	img, err := s.Images.Get(ctx, c.ImageID)
	if err != nil {
		return spec, c.ImageID
	}
	if spec.UserSpecifiedImage == "" && len(img.Names) > 0 {
		spec.Image = img.Names[0]
	}
	if len(img.RepoDigests) > 0 {
		return spec, img.RepoDigests[0]
	}
	return spec, c.ImageID
}

// nanos is 0 for what has not happened.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
