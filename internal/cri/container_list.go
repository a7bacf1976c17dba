package cri

import (
	"cmp"
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/runtime"
)

// ListContainers lists the VMs that a filter picks, oldest first. Those that
// have exited stay listed until they are removed: kubelet takes a missing one
// for dead without a trace.
func (s *Server) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	resp := &runtimeapi.ListContainersResponse{}
	for _, c := range s.Runtime.Containers() {
		if containerWanted(req.GetFilter(), c) {
			resp.Containers = append(resp.Containers, containerItem(c))
		}
	}
	slices.SortFunc(resp.Containers, func(a, b *runtimeapi.Container) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.Id, b.Id))
	})
	return resp, nil
}

func containerWanted(f *runtimeapi.ContainerFilter, c runtime.Container) bool {
	return wanted(f.GetId(), c.ID) &&
		wanted(f.GetPodSandboxId(), c.SandboxID) &&
		(f.GetState() == nil || f.GetState().GetState() == c.State) &&
		selected(f.GetLabelSelector(), c.Config.GetLabels())
}

func containerItem(c runtime.Container) *runtimeapi.Container {
	return &runtimeapi.Container{
		Id:           c.ID,
		PodSandboxId: c.SandboxID,
		Metadata:     c.Config.GetMetadata(),
		Image:        c.Config.GetImage(),
		ImageRef:     c.ImageID,
		ImageId:      c.ImageID,
		State:        c.State,
		CreatedAt:    c.CreatedAt.UnixNano(),
		Labels:       c.Config.GetLabels(),
		Annotations:  c.Config.GetAnnotations(),
	}
}
