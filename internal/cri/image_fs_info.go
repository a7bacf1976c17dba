package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageFsInfo tells what the image store occupies. kubelet uses the numbers
// without looking whether they are there.
func (s *Server) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	info, err := s.Images.FSInfo()
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{
		Timestamp:  info.Time.UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: info.Mountpoint},
		UsedBytes:  &runtimeapi.UInt64Value{Value: info.UsedBytes},
		InodesUsed: &runtimeapi.UInt64Value{Value: info.InodesUsed},
	}}}, nil
}
