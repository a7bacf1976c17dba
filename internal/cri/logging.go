package cri

import (
	"context"
	"log/slog"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// countCalls tells of each call that was answered.
func (s *Server) countCalls(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	begin := time.Now()
	resp, err := next(ctx, req)
	if s.Requested != nil {
		s.Requested(path.Base(info.FullMethod), status.Code(err).String(), time.Since(begin))
	}
	return resp, err
}

// logCalls writes a line for each call. Of a request it takes only what names
// the object: the rest (credentials, annotations, environment) may be secret.
func (s *Server) logCalls(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	begin := time.Now()
	method := path.Base(info.FullMethod)
	var about []any
	if !polled(method) || s.Log.Enabled(ctx, slog.LevelDebug) {
		about = s.subject(req) // while it is there: a removal takes it away
	}
	resp, err := next(ctx, req)
	level := levelOf(method, status.Code(err))
	if !s.Log.Enabled(ctx, level) {
		return resp, err
	}
	if about == nil {
		about = s.subject(req)
	}
	about = append(about, slog.Duration("took", time.Since(begin)))
	if err == nil {
		about = append(about, made(resp)...)
	} else {
		about = append(about, slog.String("code", status.Code(err).String()), slog.String("error", status.Convert(err).Message()))
	}
	s.Log.Log(ctx, level, method, about...)
	return resp, err
}

// levelOf keeps what kubelet asks every second out of the normal log.
func levelOf(method string, code codes.Code) slog.Level {
	switch {
	case code == codes.OK && !polled(method):
		return slog.LevelInfo
	case code == codes.OK, code == codes.NotFound, code == codes.Unimplemented, code == codes.Canceled:
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// polled tells calls that change nothing from those that do.
func polled(method string) bool {
	return strings.HasPrefix(method, "List") || strings.HasSuffix(method, "Status") ||
		method == "Version" || method == "ImageFsInfo" || method == "RuntimeConfig" || method == "Check"
}

// subject names what a request is about: the pod and the VM in the same words
// as all other lines.
func (s *Server) subject(req any) []any {
	var attrs []any
	if r, ok := req.(*runtimeapi.RunPodSandboxRequest); ok {
		attrs = runtime.LogPod(r.GetConfig().GetMetadata())
	}
	if r, ok := req.(*runtimeapi.PullImageRequest); ok && r.GetSandboxConfig() != nil {
		attrs = runtime.LogPod(r.GetSandboxConfig().GetMetadata())
	}
	if r, ok := req.(*runtimeapi.CreateContainerRequest); ok {
		attrs = append(attrs, slog.String("name", r.GetConfig().GetMetadata().GetName()))
	}
	if r, ok := req.(interface{ GetPodSandboxId() string }); ok {
		attrs = append(attrs, s.aboutSandbox(r.GetPodSandboxId())...)
	}
	if r, ok := req.(interface{ GetContainerId() string }); ok {
		attrs = append(attrs, s.aboutContainer(r.GetContainerId())...)
	}
	if r, ok := req.(interface{ GetImage() *runtimeapi.ImageSpec }); ok {
		attrs = append(attrs, slog.String("image", r.GetImage().GetImage()))
	}
	return attrs
}

// aboutSandbox says of which pod a sandbox is, as far as that is known.
func (s *Server) aboutSandbox(id string) []any {
	sb, err := s.Runtime.Sandbox(id)
	if err != nil {
		return []any{slog.String("sandbox", id)}
	}
	return append(runtime.LogPod(sb.Config.GetMetadata()), slog.String("sandbox", sb.ID))
}

func (s *Server) aboutContainer(id string) []any {
	c, err := s.Runtime.Container(id)
	if err != nil {
		return runtime.LogVM(id)
	}
	return append(s.aboutSandbox(c.SandboxID), runtime.LogVM(c.ID)...)
}

// made names what a call has made.
func made(resp any) []any {
	switch r := resp.(type) {
	case *runtimeapi.RunPodSandboxResponse:
		return []any{slog.String("sandbox", r.GetPodSandboxId())}
	case *runtimeapi.CreateContainerResponse:
		return runtime.LogVM(r.GetContainerId())
	case *runtimeapi.PullImageResponse:
		return []any{slog.String("id", r.GetImageRef())}
	}
	return nil
}
