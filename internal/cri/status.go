package cri

import (
	"context"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Status tells whether pods can be run, and which RuntimeClass handlers there
// are. Features are left out: each one that is advertised makes kubelet rely
// on it, and none of them means anything for a VM.
func (s *Server) Status(ctx context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	resp := &runtimeapi.StatusResponse{
		Status:          &runtimeapi.RuntimeStatus{},
		RuntimeHandlers: s.handlers(),
		Features:        &runtimeapi.RuntimeFeatures{},
	}
	for _, c := range s.Runtime.Conditions(ctx) {
		resp.Status.Conditions = append(resp.Status.Conditions, &runtimeapi.RuntimeCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message,
		})
	}
	if req.GetVerbose() && s.Info != nil {
		resp.Info = s.Info()
	}
	return resp, nil
}

func (s *Server) handlers() []*runtimeapi.RuntimeHandler {
	var all []*runtimeapi.RuntimeHandler
	for _, name := range s.Handlers {
		all = append(all, &runtimeapi.RuntimeHandler{Name: name, Features: &runtimeapi.RuntimeHandlerFeatures{}})
	}
	return all
}
