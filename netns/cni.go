package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// firstInterface is the name of the link that plugins are asked to make.
const firstInterface = "eth0"

func (m *Manager) newExec() *pluginExec {
	return &pluginExec{timeout: m.o.PluginTimeout, observe: m.observe}
}

func (m *Manager) cni(e *pluginExec) *libcni.CNIConfig {
	return libcni.NewCNIConfigWithCacheDir(m.o.BinDirs, m.o.CacheDir, e)
}

// runtimeConf is what the plugins are told of the pod. netnsPath is empty when the namespace does not exist any more.
func runtimeConf(p Pod, netnsPath string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: p.ID,
		NetNS:       netnsPath,
		IfName:      firstInterface,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", p.Namespace},
			{"K8S_POD_NAME", p.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.ID},
			{"K8S_POD_UID", p.UID},
		},
		CapabilityArgs: capabilityArgs(p),
	}
}

func capabilityArgs(p Pod) map[string]any {
	args := make(map[string]any, len(p.Capabilities)+2)
	for name, value := range p.Capabilities {
		args[name] = value
	}
	if len(p.PortMappings) > 0 {
		mappings := make([]PortMapping, len(p.PortMappings))
		for i, pm := range p.PortMappings {
			if pm.Protocol = strings.ToLower(pm.Protocol); pm.Protocol == "" {
				pm.Protocol = "tcp"
			}
			mappings[i] = pm
		}
		args["portMappings"] = mappings
	}
	if len(p.IPs) > 0 {
		args["ips"] = p.IPs
	}
	if mac := p.firstMAC(); mac != nil {
		args["mac"] = mac.String()
	}
	if !p.DNS.IsZero() {
		args["dns"] = map[string]any{"servers": p.DNS.Servers, "searches": p.DNS.Searches, "options": p.DNS.Options}
	}
	return args
}

// firstMAC is the address to ask for.
func (p Pod) firstMAC() HardwareAddr {
	if p.MAC != nil {
		return p.MAC
	}
	return p.KeepMACs[firstInterface]
}

// attach runs ADD. The result is cached by libcni.
func (m *Manager) attach(ctx context.Context, list *libcni.NetworkConfigList, p Pod, netnsPath string) (*types100.Result, error) {
	result, err := m.cni(m.newExec()).AddNetworkList(ctx, list, runtimeConf(p, netnsPath))
	if err != nil {
		return nil, pluginFailure(list.Name, err)
	}
	converted, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("netns: network %q: %w: %w", list.Name, ErrBadResult, err)
	}
	return converted, nil
}

// pluginFailure prefers the plugin's own failure to libcni's words around it.
func pluginFailure(network string, err error) error {
	var plugin *PluginError
	if errors.As(err, &plugin) {
		return fmt.Errorf("netns: %w", plugin)
	}
	return fmt.Errorf("netns: network %q: %w", network, err)
}

// detach runs DEL of every plugin, last one first, also when some of them fail.
func (m *Manager) detach(ctx context.Context, list *libcni.NetworkConfigList, p Pod, netnsPath string) error {
	exec := m.newExec()
	exec.keepGoing = true
	rt := runtimeConf(p, netnsPath)
	cache := m.resultPath(list.Name, p.ID)
	cached, readErr := os.ReadFile(cache)
	if err := m.cni(exec).DelNetworkList(ctx, list, rt); err != nil {
		return pluginFailure(list.Name, err)
	}
	if len(exec.failures) > 0 {
		// libcni believes that all went well and has dropped the result, which the next attempt needs.
		if readErr == nil {
			_ = os.WriteFile(cache, cached, 0o600)
		}
		return fmt.Errorf("netns: %w", errors.Join(exec.failures...))
	}
	return nil
}

// resultPath is where libcni keeps a pod's result.
func (m *Manager) resultPath(network, id string) string {
	return filepath.Join(m.resultsDir(), resultName(network, id))
}

func (m *Manager) resultsDir() string { return filepath.Join(m.o.CacheDir, "results") }

func resultName(network, id string) string {
	return fmt.Sprintf("%s-%s-%s", network, id, firstInterface)
}

// Status reports whether pods can be attached: nil when a usable configuration exists, its plugins are found, and none
// of them says (STATUS, CNI 1.1) that it is not ready. The error is made for the node's NetworkReady condition.
func (m *Manager) Status(ctx context.Context) error {
	list, _, err := loadConfig(m.o.ConfDir)
	if err != nil {
		return err
	}
	if err := m.checkPlugins(list); err != nil {
		return err
	}
	exec := m.newExec()
	exec.timeout = min(exec.timeout, m.statusTimeout)
	if err := m.cni(exec).GetStatusNetworkList(ctx, list); err != nil {
		return pluginFailure(list.Name, err)
	}
	return nil
}

// GC has the plugins give up what they hold for pods that are not attached any more (GC, CNI 1.1; older networks know no
// such thing). The plugins are told of the pods of this Manager only, and take all others for gone: it must not be called
// where another runtime uses the same networks.
func (m *Manager) GC(ctx context.Context) error {
	list, _, err := loadConfig(m.o.ConfDir)
	if err != nil {
		return err
	}
	pods, err := m.Attachments()
	if err != nil {
		return err
	}
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, p := range pods {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: p.ID, IfName: firstInterface})
	}
	if err := m.cni(m.newExec()).GCNetworkList(ctx, list, args); err != nil {
		return pluginFailure(list.Name, err)
	}
	return nil
}
