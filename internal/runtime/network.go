package runtime

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/netns"
	"github.com/qemulet/qemulet/qemu"
)

// networkRef is what the undoing of a pod's network needs: it is known before
// anything is done.
func networkRef(rec *store.Sandbox) netns.Pod {
	meta := rec.Config.M.GetMetadata()
	return netns.Pod{
		ID:        rec.ID,
		NetnsName: rec.NetnsName,
		Name:      meta.GetName(),
		Namespace: meta.GetNamespace(),
		UID:       meta.GetUid(),
	}
}

// networkPod is what the making of a pod's network needs.
func networkPod(rec *store.Sandbox) netns.Pod {
	cfg := rec.Config.M
	pod := networkRef(rec)
	pod.Hostname = vmpod.Hostname(cfg)
	pod.DNS.Servers, _ = dnsServers(cfg) // checked before there was a record
	pod.DNS.Searches = cfg.GetDnsConfig().GetSearches()
	pod.DNS.Options = cfg.GetDnsConfig().GetOptions()
	if spec, err := vmpod.ParseSandbox(cfg); err == nil { // others were refused before there was a record
		askPlugins(&pod, spec)
	}
	for _, m := range cfg.GetPortMappings() {
		// CRI: a host port of 0 is none.
		if m.GetHostPort() > 0 {
			pod.PortMappings = append(pod.PortMappings, netns.PortMapping{
				HostPort:      m.GetHostPort(),
				ContainerPort: m.GetContainerPort(),
				Protocol:      m.GetProtocol().String(),
				HostIP:        m.GetHostIp(),
			})
		}
	}
	return pod
}

// askPlugins adds what annotations ask for. A NIC has a queue pair for each
// virtual processor, as far as that is of use.
func askPlugins(pod *netns.Pod, spec *vmpod.Pod) {
	pod.Queues = min(spec.VCPUs, netns.MaxQueues)
	n := spec.Network
	pod.IPs = n.IPs
	if n.MAC != "" {
		_ = pod.MAC.UnmarshalText([]byte(n.MAC)) // the parser accepts no other
	}
	bandwidth := map[string]uint64{}
	if n.IngressRate > 0 {
		bandwidth["ingressRate"], bandwidth["ingressBurst"] = n.IngressRate, bandwidthBurst
	}
	if n.EgressRate > 0 {
		bandwidth["egressRate"], bandwidth["egressBurst"] = n.EgressRate, bandwidthBurst
	}
	if len(bandwidth) > 0 {
		pod.Capabilities = map[string]any{"bandwidth": bandwidth}
	}
}

// bandwidthBurst is kubelet's choice, in bits: there is no annotation for it.
const bandwidthBurst = math.MaxInt32

// keepMACs finds the MAC addresses of an earlier sandbox of the pod, so that a
// guest whose node was rebooted finds its interfaces as it knows them.
func (r *Runtime) keepMACs(p *pod) map[string]netns.HardwareAddr {
	var latest *store.Sandbox
	for _, other := range r.allPods() {
		rec := other.record()
		if other != p && other.uid() == p.uid() && rec.Phase != store.SandboxReady && len(rec.MACs) > 0 &&
			(latest == nil || rec.Created.After(latest.Created)) {
			latest = rec
		}
	}
	macs := map[string]netns.HardwareAddr{}
	if latest != nil {
		for name, text := range latest.MACs {
			var mac netns.HardwareAddr
			if mac.UnmarshalText([]byte(text)) == nil {
				macs[name] = mac
			}
		}
	}
	return macs
}

// checkNICs refuses a network that no machine could have all NICs of, while
// kubelet still waits for the sandbox.
func checkNICs(n *netns.Network) error {
	if count := len(n.Interfaces()); count > qemu.MaxNICs {
		return fmt.Errorf("the CNI plugins made %d interfaces; up to %d are accepted: %w", count, qemu.MaxNICs, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// warnUnclaimed names what kubelet believes the pod to have. Plugins that learn
// of it by themselves declare nothing, so that it is no error.
func (r *Runtime) warnUnclaimed(p *pod, n *netns.Network) {
	if names := n.Record().Unclaimed; len(names) > 0 {
		r.podLog(p).Warn("no CNI plugin declares a capability that the pod would use", "capabilities", strings.Join(names, ", "))
	}
}

func macsOf(n *netns.Network) map[string]string {
	macs := map[string]string{}
	for _, link := range n.Interfaces() {
		macs[link.Name] = link.MAC.String()
	}
	return macs
}

func dnsServers(cfg *runtimeapi.PodSandboxConfig) ([]netip.Addr, error) {
	var servers []netip.Addr
	for i, s := range cfg.GetDnsConfig().GetServers() {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("pod %s: dns_config.servers[%d] %q is not an IP address: %w", sandboxName(cfg), i, s, errdefs.ErrInvalidArgument)
		}
		servers = append(servers, addr)
	}
	return servers, nil
}
