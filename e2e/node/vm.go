package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// BootLimit is how long the tiny guest may take to be ready; quiet, it takes 3 to 6 s.
const BootLimit = 90 * time.Second

// VM is a VM pod: the configurations as kubelet would send them, and the ids once there are any.
type VM struct {
	Node    *Node
	Pod     *runtimeapi.PodSandboxConfig
	Config  *runtimeapi.ContainerConfig
	PodID   string
	ID      string
	LogPath string
}

// NewVM makes the configurations of a pod with one container named "vm" from the tiny guest, 96 MiB of memory. change,
// which may be nil, adapts them.
func (n *Node) NewVM(tb testing.TB, name string, change func(*VM)) *VM {
	tb.Helper()
	uid := fmt.Sprintf("%s-0000-4000-8000-%s", randomHex(4), randomHex(6))
	logs := n.path("logs", "default_"+name+"_"+uid)
	must(tb, os.MkdirAll(filepath.Join(logs, "vm"), 0o755))
	vm := &VM{
		Node: n,
		Pod: &runtimeapi.PodSandboxConfig{
			Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: uid},
			Hostname:     name,
			LogDirectory: logs,
			DnsConfig:    &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local"}},
			Labels:       map[string]string{"app": name, "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "default", "io.kubernetes.pod.uid": uid},
			Annotations:  map[string]string{"kubernetes.io/target-runtime": "virtlet.cloud", "VirtletDiskDriver": "virtio"},
			Linux:        &runtimeapi.LinuxPodSandboxConfig{CgroupParent: n.CgroupParent() + "/pod" + uid},
		},
		Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "vm"},
			Image:    &runtimeapi.ImageSpec{Image: "virtlet.cloud/tiny", UserSpecifiedImage: "virtlet.cloud/tiny"},
			LogPath:  "vm/0.log",
			Stdin:    true,
			Tty:      true,
			Labels:   map[string]string{"app": name, "io.kubernetes.container.name": "vm", "io.kubernetes.pod.uid": uid},
			Linux:    &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 96 << 20}},
		},
	}
	if change != nil {
		change(vm)
	}
	vm.LogPath = filepath.Join(logs, vm.Config.LogPath)
	return vm
}

// PodFile and ConfigFile write the configurations for crictl.
func (vm *VM) PodFile(tb testing.TB) string { return vm.file(tb, "pod", vm.Pod) }

// ConfigFile writes the container's configuration for crictl.
func (vm *VM) ConfigFile(tb testing.TB) string { return vm.file(tb, "container", vm.Config) }

func (vm *VM) file(tb testing.TB, kind string, config any) string {
	tb.Helper()
	data, err := json.Marshal(config)
	must(tb, err)
	path := vm.Node.path("cfg", vm.Pod.Metadata.Uid+"."+kind+".json")
	must(tb, os.WriteFile(path, data, 0o644))
	return path
}

// PullTiny has the node pull the tiny guest as virtlet.cloud/tiny.
func (n *Node) PullTiny(tb testing.TB) {
	tb.Helper()
	n.Web.Guest(tb, "tiny", "tiny")
	_, err := n.Images.PullImage(callContext(tb), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/tiny"}})
	must(tb, err)
}

// Run runs the pod up to a started container.
func (vm *VM) Run(tb testing.TB) {
	tb.Helper()
	must(tb, vm.TryRun(callContext(tb)))
}

// TryRun is Run with an error. What was made before the error stays.
func (vm *VM) TryRun(ctx context.Context) error {
	if err := vm.TrySandbox(ctx); err != nil {
		return err
	}
	if err := vm.TryCreate(ctx); err != nil {
		return err
	}
	return vm.TryStart(ctx)
}

// TrySandbox runs the sandbox.
func (vm *VM) TrySandbox(ctx context.Context) error {
	r, err := vm.Node.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: vm.Pod})
	if err != nil {
		return err
	}
	vm.PodID = r.PodSandboxId
	return nil
}

// TryCreate creates the container.
func (vm *VM) TryCreate(ctx context.Context) error {
	r, err := vm.Node.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: vm.PodID, Config: vm.Config, SandboxConfig: vm.Pod})
	if err != nil {
		return err
	}
	vm.ID = r.ContainerId
	return nil
}

// TryStart starts the container.
func (vm *VM) TryStart(ctx context.Context) error {
	_, err := vm.Node.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: vm.ID})
	return err
}

// Stop stops the container with a grace period in seconds.
func (vm *VM) Stop(tb testing.TB, grace int64) {
	tb.Helper()
	_, err := vm.Node.Runtime.StopContainer(callContext(tb), &runtimeapi.StopContainerRequest{ContainerId: vm.ID, Timeout: grace})
	must(tb, err)
}

// Remove takes the pod away as kubelet does: stop and remove the sandbox, container included.
func (vm *VM) Remove(tb testing.TB) {
	tb.Helper()
	_, err := vm.Node.Runtime.StopPodSandbox(callContext(tb), &runtimeapi.StopPodSandboxRequest{PodSandboxId: vm.PodID})
	must(tb, err)
	_, err = vm.Node.Runtime.RemovePodSandbox(callContext(tb), &runtimeapi.RemovePodSandboxRequest{PodSandboxId: vm.PodID})
	must(tb, err)
}

// Status is the container's status.
func (vm *VM) Status(tb testing.TB) *runtimeapi.ContainerStatus {
	tb.Helper()
	r, err := vm.Node.Runtime.ContainerStatus(callContext(tb), &runtimeapi.ContainerStatusRequest{ContainerId: vm.ID})
	must(tb, err)
	return r.Status
}

// PodStatus is the sandbox's status.
func (vm *VM) PodStatus(tb testing.TB) *runtimeapi.PodSandboxStatus {
	tb.Helper()
	r, err := vm.Node.Runtime.PodSandboxStatus(callContext(tb), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: vm.PodID})
	must(tb, err)
	return r.Status
}

// WaitExited waits until the container is EXITED, and returns its status and when that was first seen.
func (vm *VM) WaitExited(tb testing.TB, limit time.Duration) (*runtimeapi.ContainerStatus, time.Time) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for {
		s := vm.Status(tb)
		if s.State == runtimeapi.ContainerState_CONTAINER_EXITED {
			return s, time.Now()
		}
		if time.Now().After(deadline) {
			tb.Fatalf("container is %v, not EXITED, after %v", s.State, limit)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// WaitLog waits for a line of the VM's log, and returns the match and its groups.
func (vm *VM) WaitLog(tb testing.TB, pattern string, limit time.Duration) []string {
	tb.Helper()
	return WaitLog(tb, vm.LogPath, pattern, limit)
}

// WaitReady waits until the guest has booted.
func (vm *VM) WaitReady(tb testing.TB) {
	tb.Helper()
	vm.WaitLog(tb, `^@@GUEST ready `, BootLimit)
}

// WaitNetwork waits until the guest has its address.
func (vm *VM) WaitNetwork(tb testing.TB) {
	tb.Helper()
	vm.WaitLog(tb, `^@@GUEST dhcp eth0 bound `, BootLimit)
}

// Attach attaches to the console.
func (vm *VM) Attach(tb testing.TB) *Console { tb.Helper(); return vm.Node.Attach(tb, vm.ID) }

// IP is the pod's address.
func (vm *VM) IP(tb testing.TB) string { tb.Helper(); return vm.PodStatus(tb).GetNetwork().GetIp() }

// HTTPClient makes requests from the node's network namespace.
func (n *Node) HTTPClient() *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: n.ns.dial}}
}

// Do calls f on a thread that is in the node's network namespace.
func (n *Node) Do(f func() error) error { return n.ns.do(f) }

// Dial connects from the node to a numeric address.
func (n *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return n.ns.dial(ctx, network, address)
}

// Info asks the guest at an address what it sees: its page /cgi-bin/info as a map; of names that come several times,
// the values are joined by newlines.
func (n *Node) Info(address string) (map[string]string, error) {
	r, err := n.HTTPClient().Get("http://" + address + "/cgi-bin/info")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(body)), "\n") {
		k, v, _ := strings.Cut(line, "=")
		if old, ok := info[k]; ok {
			v = old + "\n" + v
		}
		info[k] = v
	}
	return info, nil
}

// WaitInfo asks until the guest answers.
func (vm *VM) WaitInfo(tb testing.TB) map[string]string {
	tb.Helper()
	ip := vm.IP(tb)
	var info map[string]string
	Eventually(tb, BootLimit, func() (err error) { info, err = vm.Node.Info(ip); return err })
	return info
}

// callContext bounds a call; none takes this long.
func callContext(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	tb.Cleanup(cancel)
	return ctx
}
