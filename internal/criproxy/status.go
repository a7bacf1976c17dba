package criproxy

import (
	"context"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// VMCondition is the condition in the node's runtime status that tells about
// the VM runtime. kubelet shows only those that it knows; crictl shows all.
const VMCondition = "VirtletReady"

// status is the primary's with the VM runtime's handlers and one condition
// more. That the VM runtime is away never makes the node NotReady.
func (p *Proxy) status(c *call) error {
	verbose := new(runtimeapi.StatusRequest)
	_ = proto.Unmarshal(c.in.bytes(), verbose)
	ours := make(chan *runtimeapi.StatusResponse, 1)
	go func() { ours <- p.vmStatus(c.ctx, verbose) }()
	out, err := c.ask(p.primary)
	if err != nil {
		return err
	}
	var theirs runtimeapi.StatusResponse
	if err := proto.Unmarshal(out.bytes(), &theirs); err == nil {
		out.parts = append(out.parts, encoded(p.joined(&theirs, <-ours), nil))
	}
	return c.answer(out, nil)
}

// vmStatus is the VM runtime's status, reduced to what the node's gets of it.
func (p *Proxy) vmStatus(ctx context.Context, req *runtimeapi.StatusRequest) *runtimeapi.StatusResponse {
	ctx, cancel := p.brief(ctx)
	defer cancel()
	ready := &runtimeapi.RuntimeCondition{Type: VMCondition, Status: true}
	got, err := p.vm.runtime().Status(ctx, req)
	if err != nil {
		ready.Status, ready.Reason, ready.Message = false, "Unreachable", p.explain(err).Error()
	}
	for _, condition := range got.GetStatus().GetConditions() {
		if !condition.GetStatus() && ready.GetStatus() {
			ready.Status, ready.Reason, ready.Message = false, condition.GetReason(), condition.GetType()+": "+condition.GetMessage()
		}
	}
	return &runtimeapi.StatusResponse{
		Status:          &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{ready}},
		RuntimeHandlers: got.GetRuntimeHandlers(),
		Info:            got.GetInfo(),
	}
}

// joined is what the primary's status lacks. Handlers are those that are
// routed to the VM runtime, also while it is away: kubelet keeps a list of
// them.
func (p *Proxy) joined(theirs, ours *runtimeapi.StatusResponse) *runtimeapi.StatusResponse {
	add := &runtimeapi.StatusResponse{Status: ours.GetStatus()}
	taken := map[string]bool{}
	for _, h := range theirs.GetRuntimeHandlers() {
		taken[h.GetName()] = true
	}
	features := map[string]*runtimeapi.RuntimeHandlerFeatures{}
	for _, h := range ours.GetRuntimeHandlers() {
		features[h.GetName()] = h.GetFeatures()
	}
	for _, name := range p.handlers {
		if !taken[name] {
			add.RuntimeHandlers = append(add.RuntimeHandlers, &runtimeapi.RuntimeHandler{Name: name, Features: features[name]})
		}
	}
	for key, value := range ours.GetInfo() {
		if add.Info == nil {
			add.Info = map[string]string{}
		}
		add.Info[p.id+"/"+key] = value
	}
	return add
}

// runtimeConfig is the primary's. kubelet makes all pods' cgroups the way that
// it says: a VM runtime that does it in another way would be outside of them.
func (p *Proxy) runtimeConfig(c *call) error {
	out, err := c.ask(p.primary)
	if err == nil {
		p.compareDrivers(c.ctx, out)
	}
	return c.answer(out, err)
}

func (p *Proxy) compareDrivers(ctx context.Context, primary *frame) {
	ctx, cancel := p.brief(ctx)
	defer cancel()
	var theirs runtimeapi.RuntimeConfigResponse
	ours, err := p.vm.runtime().RuntimeConfig(ctx, &runtimeapi.RuntimeConfigRequest{})
	if err != nil || proto.Unmarshal(primary.bytes(), &theirs) != nil || theirs.GetLinux() == nil || ours.GetLinux() == nil {
		return
	}
	if a, b := theirs.GetLinux().GetCgroupDriver(), ours.GetLinux().GetCgroupDriver(); a != b {
		p.log.Error("the runtimes make cgroups in different ways: set the VM runtime's cgroup-driver to the primary's", "primary", a, "vm", b)
	}
}

// updateRuntimeConfig tells both; only the primary's answer counts.
func (p *Proxy) updateRuntimeConfig(c *call) error {
	ctx, cancel := p.brief(c.ctx)
	defer cancel()
	if _, err := p.vm.invoke(ctx, c.method, c.in); err != nil {
		p.log.Warn("the VM runtime was not told the node's configuration", "error", err)
	}
	return p.primaryOnly(c)
}

// listMetricDescriptors joins by name. kubelet asks once, so the VM runtime's
// are kept for when it is away.
func (p *Proxy) listMetricDescriptors(c *call) error {
	out, err := c.ask(p.primary)
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, item := range items(out.bytes()) {
		taken[itemID(item)] = true
	}
	var add []byte
	for _, item := range items(p.vmDescriptors(c)) {
		if !taken[itemID(item)] {
			add = appendItem(add, item)
		}
	}
	out.parts = append(out.parts, add)
	return c.answer(out, nil)
}

func (p *Proxy) vmDescriptors(c *call) []byte {
	ctx, cancel := p.brief(c.ctx)
	defer cancel()
	asked := p.known.asked()
	out, err := p.vm.invoke(ctx, c.method, c.in)
	if err != nil {
		return p.known.list(descriptors)
	}
	p.known.learn(descriptors, out.bytes(), asked)
	return out.bytes()
}
