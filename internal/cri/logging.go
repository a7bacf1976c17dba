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
)

// logCalls writes a line for each call. Of a request it takes only what names
// the object: the rest (credentials, annotations, environment) may be secret.
func logCalls(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		begin := time.Now()
		resp, err := next(ctx, req)
		method := path.Base(info.FullMethod)
		level := levelOf(method, status.Code(err))
		if !log.Enabled(ctx, level) {
			return resp, err
		}
		attrs := append(subject(req), slog.Duration("took", time.Since(begin)))
		if err == nil {
			attrs = append(attrs, made(resp)...)
		} else {
			attrs = append(attrs, slog.String("code", status.Code(err).String()), slog.String("error", status.Convert(err).Message()))
		}
		log.LogAttrs(ctx, level, method, attrs...)
		return resp, err
	}
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

// subject names what a request is about.
func subject(req any) []slog.Attr {
	var attrs []slog.Attr
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	if r, ok := req.(*runtimeapi.RunPodSandboxRequest); ok {
		m := r.GetConfig().GetMetadata()
		add("pod", m.GetNamespace()+"/"+m.GetName())
		add("uid", m.GetUid())
	}
	if r, ok := req.(*runtimeapi.CreateContainerRequest); ok {
		add("name", r.GetConfig().GetMetadata().GetName())
	}
	if r, ok := req.(interface{ GetPodSandboxId() string }); ok {
		add("sandbox", r.GetPodSandboxId())
	}
	if r, ok := req.(interface{ GetContainerId() string }); ok {
		add("container", r.GetContainerId())
	}
	if r, ok := req.(interface{ GetImage() *runtimeapi.ImageSpec }); ok {
		add("image", r.GetImage().GetImage())
	}
	return attrs
}

// made names what a call has made.
func made(resp any) []slog.Attr {
	switch r := resp.(type) {
	case *runtimeapi.RunPodSandboxResponse:
		return []slog.Attr{slog.String("sandbox", r.GetPodSandboxId())}
	case *runtimeapi.CreateContainerResponse:
		return []slog.Attr{slog.String("container", r.GetContainerId())}
	case *runtimeapi.PullImageResponse:
		return []slog.Attr{slog.String("id", r.GetImageRef())}
	}
	return nil
}
