package cri

import (
	"context"
	"encoding/json"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
)

// ImageStatus describes the image that goes by any kind of reference. Without
// one the answer is a success that holds no image.
func (s *Server) ImageStatus(ctx context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	if err := needImage(req.GetImage()); err != nil {
		return nil, err
	}
	img, err := s.Images.Get(ctx, req.GetImage().GetImage())
	if errdefs.IsNotFound(err) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	resp := &runtimeapi.ImageStatusResponse{Image: image(img)}
	if req.GetVerbose() {
		resp.Info, err = imageInfo(img)
	}
	return resp, err
}

func imageInfo(img images.Image) (map[string]string, error) {
	info := struct {
		Digest      string `json:"digest"`
		Path        string `json:"path"`
		VirtualSize int64  `json:"virtualSize"`
		Damaged     string `json:"damaged,omitempty"`
		PulledAt    string `json:"pulledAt"`
	}{
		Digest: img.Digest, Path: img.Path, VirtualSize: img.VirtualSize,
		PulledAt: img.PulledAt.UTC().Format("2006-01-02T15:04:05Z07:00"),
	}
	if img.Damaged != nil {
		info.Damaged = img.Damaged.Error()
	}
	raw, err := json.Marshal(info)
	return map[string]string{"info": string(raw)}, err
}
