package cri

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
)

// PullImage fetches an image and answers, when it is complete, with its id.
func (s *Server) PullImage(ctx context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	if err := needImage(req.GetImage()); err != nil {
		return nil, err
	}
	img, err := s.pull(ctx, req)
	if err != nil {
		return nil, err
	}
	if m := req.GetSandboxConfig().GetMetadata(); m != nil && s.Pulled != nil {
		s.Pulled(m, req.GetImage().GetImage(), img)
	}
	return &runtimeapi.PullImageResponse{ImageRef: img.ID}, nil
}

// pull is a part of a VM's way, and of its trace, like those in package runtime.
func (s *Server) pull(ctx context.Context, req *runtimeapi.PullImageRequest) (images.Image, error) {
	ctx, span := trace.SpanFromContext(ctx).TracerProvider().Tracer("github.com/qemulet/qemulet/internal/cri").Start(ctx, "pull")
	defer span.End()
	img, err := s.Images.Pull(ctx, req.GetImage().GetImage(), credentials(req.GetAuth()))
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, "")
	}
	return img, err
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
