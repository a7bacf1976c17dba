package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/images"
)

// image puts a stored image into CRI's words. A disk image has no user of its
// own; kubelet and critest want one, and inside a VM it is root who boots.
func image(img images.Image) *runtimeapi.Image {
	return &runtimeapi.Image{
		Id:          img.ID,
		RepoTags:    img.Names,
		RepoDigests: img.RepoDigests,
		Size:        uint64(max(img.Size, 0)),
		Uid:         &runtimeapi.Int64Value{Value: 0},
	}
}

func needImage(spec *runtimeapi.ImageSpec) error { return needID("image.image", spec.GetImage()) }
