package runtime

import (
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/internal/vmpod"
	"github.com/qemulet/qemulet/netns"
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
	pod.Queues = queues(cfg)
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

// queues is how many queue pairs a NIC has: one for each virtual processor, as
// far as that is of use.
func queues(cfg *runtimeapi.PodSandboxConfig) int {
	spec, err := vmpod.ParseSandbox(cfg)
	if err != nil {
		return 1 // refused before there was a record
	}
	return min(spec.VCPUs, netns.MaxQueues)
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
