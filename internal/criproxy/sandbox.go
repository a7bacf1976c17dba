package criproxy

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runPodSandbox sends a new pod where its RuntimeClass or annotation says.
func (p *Proxy) runPodSandbox(c *call) error {
	var req runtimeapi.RunPodSandboxRequest
	if err := proto.Unmarshal(c.in.bytes(), &req); err != nil {
		return status.Errorf(codes.InvalidArgument, "RunPodSandbox: %v", err)
	}
	to, err := p.sandbox(req.GetRuntimeHandler(), req.GetConfig().GetAnnotations())
	if err != nil {
		return err
	}
	out, err := c.ask(p.backend(to))
	switch {
	case err != nil && to == toVM:
		return p.explain(err)
	case err != nil:
		return err
	case to == toVM:
		p.known.madeSandbox(&req, string(field(out.bytes(), 1)))
	default:
		p.known.primaryMade(string(field(out.bytes(), 1)))
	}
	return c.answer(out, nil)
}
