package cri

import (
	"cmp"
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// ListPodSandbox lists the pods that a filter picks, oldest first.
func (s *Server) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	resp := &runtimeapi.ListPodSandboxResponse{}
	for _, sb := range s.Runtime.Sandboxes() {
		if sandboxWanted(req.GetFilter(), sb) {
			resp.Items = append(resp.Items, sandboxItem(sb))
		}
	}
	slices.SortFunc(resp.Items, func(a, b *runtimeapi.PodSandbox) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.Id, b.Id))
	})
	return resp, nil
}

func sandboxWanted(f *runtimeapi.PodSandboxFilter, sb runtime.Sandbox) bool {
	return wanted(f.GetId(), sb.ID) &&
		(f.GetState() == nil || f.GetState().GetState() == sandboxState(sb)) &&
		selected(f.GetLabelSelector(), sb.Config.GetLabels())
}

func sandboxItem(sb runtime.Sandbox) *runtimeapi.PodSandbox {
	return &runtimeapi.PodSandbox{
		Id:             sb.ID,
		Metadata:       sb.Config.GetMetadata(),
		State:          sandboxState(sb),
		CreatedAt:      sb.CreatedAt.UnixNano(),
		Labels:         sb.Config.GetLabels(),
		Annotations:    sb.Config.GetAnnotations(),
		RuntimeHandler: sb.Handler,
	}
}
