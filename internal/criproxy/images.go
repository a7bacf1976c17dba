package criproxy

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// imageOf reads the image that a call is about, field 1 in all of them.
func imageOf(c *call) (*runtimeapi.ImageSpec, error) {
	var spec runtimeapi.ImageSpec
	if err := proto.Unmarshal(field(c.in.bytes(), 1), &spec); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "%s: %v", c.name(), err)
	}
	return &spec, nil
}

// imageStatus asks both for an id that nobody has seen yet: the primary first.
func (p *Proxy) imageStatus(c *call) error {
	spec, err := imageOf(c)
	if err != nil {
		return err
	}
	switch p.image(spec, nil) {
	case toVM:
		out, err := c.ask(p.vm)
		return c.answer(out, p.explain(err))
	case toBoth:
		out, err := c.ask(p.primary)
		if err != nil || len(field(out.bytes(), 1)) > 0 {
			return c.answer(out, err)
		}
		if ours, err := c.ask(p.vm); err == nil {
			out = ours
		}
		return c.answer(out, nil)
	}
	return p.primaryOnly(c)
}

func (p *Proxy) pullImage(c *call) error {
	var req runtimeapi.PullImageRequest
	if err := proto.Unmarshal(c.in.bytes(), &req); err != nil {
		return status.Errorf(codes.InvalidArgument, "PullImage: %v", err)
	}
	if p.image(req.GetImage(), req.GetSandboxConfig().GetAnnotations()) != toVM {
		return p.primaryOnly(c)
	}
	out, err := c.ask(p.vm)
	return c.answer(out, p.explain(err))
}

// removeImage removes an id that nobody has seen yet from both: only if both
// have done it is it gone.
func (p *Proxy) removeImage(c *call) error {
	spec, err := imageOf(c)
	if err != nil {
		return err
	}
	to := p.image(spec, nil)
	if to == toPrimary {
		return p.primaryOnly(c)
	}
	out, err := c.ask(p.vm)
	if err != nil {
		return p.explain(err)
	}
	p.known.forget(images, spec.GetImage())
	if to == toBoth {
		out, err = c.ask(p.primary)
	}
	return c.answer(out, err)
}

// imageFsInfo appends the VM runtime's file system if it is another one.
// kubelet looks at the first entry only, which stays the primary's.
func (p *Proxy) imageFsInfo(c *call) error {
	out, err := c.ask(p.primary)
	if err != nil {
		return err
	}
	ctx, cancel := p.brief(c.ctx)
	defer cancel()
	ours, err := p.vm.images().ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		p.log.Warn("the VM runtime has not told about its file system", "error", err)
		return c.answer(out, nil)
	}
	var theirs runtimeapi.ImageFsInfoResponse
	if proto.Unmarshal(out.bytes(), &theirs) == nil {
		out.parts = append(out.parts, otherFileSystems(&theirs, ours))
	}
	return c.answer(out, nil)
}

func otherFileSystems(theirs, ours *runtimeapi.ImageFsInfoResponse) []byte {
	taken := map[string]bool{}
	for _, fs := range theirs.GetImageFilesystems() {
		taken[fs.GetFsId().GetMountpoint()] = true
	}
	add := &runtimeapi.ImageFsInfoResponse{}
	for _, fs := range ours.GetImageFilesystems() {
		if !taken[fs.GetFsId().GetMountpoint()] {
			add.ImageFilesystems = append(add.ImageFilesystems, fs)
		}
	}
	return encoded(add, nil)
}
