package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const (
	nodeIP   = "192.0.2.1" // of the node, beside the pods' gateway
	hostPort = 18080
)

// What the cluster does for a pod's network works for a guest: names, ports of the node, and leases when the daemon has died.
func TestPodNetwork(t *testing.T) {
	t.Parallel()
	n := node.Start(t, node.Options{})
	n.PullTiny(t)
	conf := bridgeConf(t, n)
	last := strings.LastIndex(conf, "}]")
	n.WriteCNI(t, conf[:last]+`}, {"type": "portmap", "capabilities": {"portMappings": true}}`+conf[last+1:])
	gateway := n.Subnet + "1"
	inNode(t, n, "ip", "addr", "add", nodeIP+"/32", "dev", "lo")
	dns := n.StartDNS(t, map[string]string{"web.default.svc.cluster.local": gateway, "example.org": nodeIP})
	vm := n.NewVM(t, "served", func(vm *node.VM) {
		vm.Pod.Annotations["VirtletVCPUCount"] = "2"
		vm.Pod.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{gateway}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local"}, Options: []string{"ndots:5"}}
		vm.Pod.PortMappings = []*runtimeapi.PortMapping{{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 80, HostPort: hostPort}}
	})
	vm.Run(t)
	vm.WaitReady(t)
	vm.WaitNetwork(t)
	t.Run("offloads", func(t *testing.T) { offloadsAndQueues(t, vm) })
	t.Run("names", func(t *testing.T) { namesOfThePod(t, vm, dns) })
	t.Run("hostPort", func(t *testing.T) { hostPortReachesTheGuest(t, vm) })
	t.Run("leases after a crash", func(t *testing.T) { leasesAfterACrash(t, vm) })
	vm.Remove(t)
	if _, err := n.Dial(seconds(t, 5), "tcp", fmt.Sprintf("%s:%d", nodeIP, hostPort)); err == nil {
		t.Error("the node's port still leads somewhere after the pod was removed")
	}
	if rules := inNode(t, n, "iptables-save", "-t", "nat"); strings.Contains(rules, fmt.Sprint(hostPort)) {
		t.Errorf("rules left behind:\n%s", rules)
	}
	n.NoLeaks(t)
}

// offloadsAndQueues: the guest's driver has agreed to what the tap can do.
func offloadsAndQueues(t *testing.T, vm *node.VM) {
	c := vm.Attach(t)
	defer c.Close()
	if got := c.Command("ls -d /sys/class/net/eth0/queues/rx-* | wc -l"); got != "2" {
		t.Errorf("%s queues for 2 processors", got)
	}
	features := c.Command("cat /sys/class/net/eth0/device/features")
	// Virtual I/O Device (VIRTIO) 1.1, 5.1.3: the bits' numbers.
	for name, bit := range map[string]int{"CSUM": 0, "GUEST_CSUM": 1, "MTU": 3, "GUEST_TSO4": 7, "GUEST_TSO6": 8, "HOST_TSO4": 11, "HOST_TSO6": 12, "MQ": 22} {
		if len(features) <= bit || features[bit] != '1' {
			t.Errorf("the feature VIRTIO_NET_F_%s was not negotiated: %s", name, features)
		}
	}
}

// namesOfThePod: the servers and search domains of the pod are the guest's, by DHCP.
func namesOfThePod(t *testing.T, vm *node.VM, dns *node.DNS) {
	c := vm.Attach(t)
	defer c.Close()
	for name, ip := range map[string]string{"web": vm.Node.Subnet + "1", "example.org": nodeIP} {
		mentions(t, c.Command("ping -c 1 -w 10 "+name), "("+ip+")", "1 packets received")
	}
	if !dns.Asked("web.default.svc.cluster.local") {
		t.Error("the pod's search domains were not used")
	}
	mentions(t, c.Command("ping -c 1 -w 10 nobody"), "bad address")
	if !dns.Asked("nobody.svc.cluster.local") {
		t.Error("the second of the pod's search domains was not used")
	}
}

// hostPortReachesTheGuest from the node itself, which is where a packet from elsewhere would be as well.
func hostPortReachesTheGuest(t *testing.T, vm *node.VM) {
	want := vm.WaitInfo(t)
	for _, ip := range []string{nodeIP, "127.0.0.1"} {
		var got map[string]string
		node.Eventually(t, 20*time.Second, func() (err error) {
			got, err = vm.Node.Info(fmt.Sprintf("%s:%d", ip, hostPort))
			return err
		})
		if got["boot_id"] == "" || got["boot_id"] != want["boot_id"] {
			t.Errorf("behind %s:%d is %v", ip, hostPort, got)
		}
	}
}

// leasesAfterACrash: the next daemon answers the guest's DHCP as soon as it runs. How soon depends on the machine, and is only logged.
func leasesAfterACrash(t *testing.T, vm *node.VM) {
	clients := vm.PrepareLeaseClients(t)
	vm.Node.Kill9(t)
	clients.Begin(t)
	begin := time.Now()
	vm.Node.Restart(t)
	answers := time.Since(begin)
	clients.Wait(t)
	took := time.Since(begin)
	t.Logf("DHCP: a lease %v after the daemon's start, which answered CRI after %v", took, answers)
	if took > 30*time.Second {
		t.Errorf("the guest has a lease again after %v", took)
	}
	c := vm.Attach(t)
	defer c.Close()
	c.Command("touch /run/enough")
}

// inNode runs a program in the node's network namespace and returns what it printed.
func inNode(t *testing.T, n *node.Node, argv ...string) string {
	t.Helper()
	return command(t, append([]string{"nsenter", "--net=/run/netns/" + n.Netns()}, argv...)...)
}

// TestLongFiftyVMs: guests that are created at the same moment all get the addresses of their pods. Emulated on two cores they
// need three to five minutes to boot.
func TestLongFiftyVMs(t *testing.T) {
	node.NeedLong(t)
	const count = 50
	n := node.Start(t, node.Options{Args: []string{"--log-level", "info"}})
	n.PullTiny(t)
	wire := n.StartCapture(t)
	vms := make([]*node.VM, count)
	errs := make([]error, count)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range vms {
		vms[i] = n.NewVM(t, fmt.Sprintf("vm-%d", i), nil)
		wg.Go(func() { errs[i] = vms[i].TryRun(seconds(t, 300)) })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("VM %d: %v", i, err)
		}
	}
	t.Logf("%d VMs started within %v", count, time.Since(begin))
	deadline := begin.Add(30 * time.Minute)
	taken := map[string]string{}
	for _, vm := range vms {
		ip := vm.IP(t)
		if other := taken[ip]; other != "" {
			t.Errorf("%s is the address of %s and %s", ip, other, vm.Pod.Metadata.Name)
		}
		taken[ip] = vm.Pod.Metadata.Name
		got := vm.WaitLog(t, `^@@GUEST dhcp eth0 bound ip=([0-9.]+)/24 .*hostname=(\S+)`, time.Until(deadline))
		if got[1] != ip || got[2] != vm.Pod.Metadata.Name {
			t.Errorf("%s was told %s and %s, has the address %s", vm.Pod.Metadata.Name, got[1], got[2], ip)
		}
	}
	t.Logf("all have their addresses after %v", time.Since(begin))
	if seen := wire.Seen(); len(seen) > 0 {
		t.Errorf("on the node's side: %q", seen)
	}
	for _, vm := range vms {
		vm.Remove(t)
	}
	n.NoLeaks(t)
}
