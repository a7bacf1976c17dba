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
	img, err := s.Images.Pull(ctx, req.GetImage().GetImage(), credentials(req.GetAuth()))
	if err != nil {
		return nil, err
	}
	if m := req.GetSandboxConfig().GetMetadata(); m != nil && s.Pulled != nil {
		s.Pulled(m, req.GetImage().GetImage(), img)
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}

// credentials is nil where there are none: such pulls of an image are all the same.
func credentials(a *runtimeapi.AuthConfig) *images.Auth {
	auth := images.Auth{
		Username:      a.GetUsername(),
		Password:      a.GetPassword(),
		Auth:          a.GetAuth(),
		IdentityToken: a.GetIdentityToken(),
		RegistryToken: a.GetRegistryToken(),
	}
	if auth == (images.Auth{}) {
		return nil
	}
	auth.ServerAddress = a.GetServerAddress()
	return &auth
}
