package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
)

// PullImage fetches an image and answers, when it is complete, with its id.
func (s *Server) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	if err := needImage(req.GetImage()); err != nil {
		return nil, err
	}
	auth, err := credentials(req.GetAuth())
	if err != nil {
		return nil, err
	}
	img, err := s.Images.Pull(ctx, req.GetImage().GetImage(), auth)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}

func credentials(a *runtimeapi.AuthConfig) (*images.Auth, error) {
	auth := images.Auth{
		Username:      a.GetUsername(),
		Password:      a.GetPassword(),
		Auth:          a.GetAuth(),
		RegistryToken: a.GetRegistryToken(),
	}
	if auth != (images.Auth{}) {
		return &auth, nil
	}
	if a.GetIdentityToken() != "" {
		return nil, invalid("auth: an identity token cannot be used for a VM image, give a user name and password or a registry token")
	}
	return nil, nil
}
