package cri

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The streamed lists are the lists, in messages that stay far below the
// client's limit however many items there are.

// batchSize is how many items go into a message of a streamed list.
const batchSize = 100

// sendBatches sends items, none in no message at all.
func sendBatches[I, R any](items []I, send func(*R) error, message func([]I) *R) error {
	for batch := range slices.Chunk(items, batchSize) {
		if err := send(message(batch)); err != nil {
			return err
		}
	}
	return nil
}

// list asks for the whole list and sends it.
func list[Q, L, I, R any](ctx context.Context, ask func(context.Context, *Q) (*L, error), req *Q, items func(*L) []I, send func(*R) error, message func([]I) *R) error {
	all, err := ask(ctx, req)
	if err != nil {
		return err
	}
	return sendBatches(items(all), send, message)
}

// StreamPodSandboxes is ListPodSandbox in parts.
func (s *Server) StreamPodSandboxes(req *runtimeapi.StreamPodSandboxesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxesResponse]) error {
	return list(stream.Context(), s.ListPodSandbox, &runtimeapi.ListPodSandboxRequest{Filter: req.GetFilter()},
		(*runtimeapi.ListPodSandboxResponse).GetItems, stream.Send, func(part []*runtimeapi.PodSandbox) *runtimeapi.StreamPodSandboxesResponse {
			return &runtimeapi.StreamPodSandboxesResponse{PodSandboxes: part}
		})
}

// StreamContainers is ListContainers in parts.
func (s *Server) StreamContainers(req *runtimeapi.StreamContainersRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	return list(stream.Context(), s.ListContainers, &runtimeapi.ListContainersRequest{Filter: req.GetFilter()},
		(*runtimeapi.ListContainersResponse).GetContainers, stream.Send, func(part []*runtimeapi.Container) *runtimeapi.StreamContainersResponse {
			return &runtimeapi.StreamContainersResponse{Containers: part}
		})
}

// StreamContainerStats is ListContainerStats in parts.
func (s *Server) StreamContainerStats(req *runtimeapi.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainerStatsResponse]) error {
	return list(stream.Context(), s.ListContainerStats, &runtimeapi.ListContainerStatsRequest{Filter: req.GetFilter()},
		(*runtimeapi.ListContainerStatsResponse).GetStats, stream.Send, func(part []*runtimeapi.ContainerStats) *runtimeapi.StreamContainerStatsResponse {
			return &runtimeapi.StreamContainerStatsResponse{ContainerStats: part}
		})
}

// StreamPodSandboxStats is ListPodSandboxStats in parts.
func (s *Server) StreamPodSandboxStats(req *runtimeapi.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxStatsResponse]) error {
	return list(stream.Context(), s.ListPodSandboxStats, &runtimeapi.ListPodSandboxStatsRequest{Filter: req.GetFilter()},
		(*runtimeapi.ListPodSandboxStatsResponse).GetStats, stream.Send, func(part []*runtimeapi.PodSandboxStats) *runtimeapi.StreamPodSandboxStatsResponse {
			return &runtimeapi.StreamPodSandboxStatsResponse{PodSandboxStats: part}
		})
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in parts.
func (s *Server) StreamPodSandboxMetrics(_ *runtimeapi.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxMetricsResponse]) error {
	return list(stream.Context(), s.ListPodSandboxMetrics, &runtimeapi.ListPodSandboxMetricsRequest{},
		(*runtimeapi.ListPodSandboxMetricsResponse).GetPodMetrics, stream.Send, func(part []*runtimeapi.PodSandboxMetrics) *runtimeapi.StreamPodSandboxMetricsResponse {
			return &runtimeapi.StreamPodSandboxMetricsResponse{PodSandboxMetrics: part}
		})
}

// StreamImages is ListImages in parts.
func (s *Server) StreamImages(req *runtimeapi.StreamImagesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamImagesResponse]) error {
	return list(stream.Context(), s.ListImages, &runtimeapi.ListImagesRequest{Filter: req.GetFilter()},
		(*runtimeapi.ListImagesResponse).GetImages, stream.Send, func(part []*runtimeapi.Image) *runtimeapi.StreamImagesResponse {
			return &runtimeapi.StreamImagesResponse{Images: part}
		})
}
