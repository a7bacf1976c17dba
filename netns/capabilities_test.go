package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestBandwidth takes the plugin that is in use: it shapes the pod's link on the node's side.
func TestBandwidth(t *testing.T) {
	n := newNode(t, bridgeNet(`{"type":"bandwidth","capabilities":{"bandwidth":true}}`))
	p := testPod(1)
	p.Capabilities = map[string]any{"bandwidth": map[string]uint64{"ingressRate": 8e6, "ingressBurst": 8e5, "egressRate": 16e6, "egressBurst": 8e5}}
	network := n.setup(p)
	var shaped []uint64
	links, err := netlink.LinkList()
	n.must(err)
	for _, link := range links {
		qdiscs, err := netlink.QdiscList(link)
		n.must(err)
		for _, q := range qdiscs {
			if tbf, ok := q.(*netlink.Tbf); ok {
				shaped = append(shaped, tbf.Rate)
			}
		}
	}
	if fmt.Sprint(shaped) != "[1000000 2000000]" && fmt.Sprint(shaped) != "[2000000 1000000]" {
		t.Errorf("bytes per second: %v", shaped)
	}
	guest := newGuest(t, n, network, 0)
	guest.startDHCP().wait("bound")
	n.must(n.Check(t.Context(), network.Record()))
	n.teardown(p)
	n.assertClean()
}

// TestWhatPluginsAreTold: who the pod is, and what it wants of those only that declare it.
func TestWhatPluginsAreTold(t *testing.T) {
	n := newNode(t, bridgeNet(`{"type":"fake","capabilities":{"portMappings":true,"dns":true,"bandwidth":true}}`))
	n.plugin("fake", `env >"$0.env.$CNI_COMMAND"; printf %s "$in" >"$0.in.$CNI_COMMAND"
		[ $CNI_COMMAND = DEL ] || printf %s "$in" | sed 's/.*"prevResult"://; s/,"runtimeConfig".*$//'`)
	p := testPod(1)
	p.DNS.Options = []string{"ndots:5"}
	p.PortMappings = []PortMapping{{HostPort: 18080, ContainerPort: 80}, {HostPort: 18053, ContainerPort: 53, Protocol: "UDP", HostIP: "192.0.2.1"}}
	p.Capabilities = map[string]any{"bandwidth": map[string]uint64{"ingressRate": 8e6, "ingressBurst": 8e5}}
	n.setup(p)
	n.teardown(p)
	for _, command := range []string{"ADD", "DEL"} {
		env, err := os.ReadFile(n.bin + "/fake.env." + command)
		n.must(err)
		for _, want := range []string{"CNI_CONTAINERID=" + p.ID, "CNI_NETNS=" + n.netnsPath(p), "CNI_IFNAME=eth0",
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=vm-1;K8S_POD_INFRA_CONTAINER_ID=" + p.ID + ";K8S_POD_UID=uid-1"} {
			if !strings.Contains(string(env), want+"\n") {
				t.Errorf("%s lacks %q:\n%s", command, want, env)
			}
		}
	}
	told, err := os.ReadFile(n.bin + "/fake.in.ADD")
	n.must(err)
	var in struct{ RuntimeConfig map[string]any }
	n.must(json.Unmarshal(told, &in))
	want := `{"bandwidth":{"ingressBurst":800000,"ingressRate":8000000},"dns":{"options":["ndots:5"],"searches":["default.svc.cluster.local","svc.cluster.local"],` +
		`"servers":["10.96.0.10"]},"portMappings":[{"containerPort":80,"hostPort":18080,"protocol":"tcp"},{"containerPort":53,"hostIP":"192.0.2.1","hostPort":18053,"protocol":"udp"}]}`
	if got := toJSON(t, in.RuntimeConfig); got != want {
		t.Errorf("runtimeConfig\n%s\nwant\n%s", got, want)
	}
}

// TestWhatNoPluginTakes: it is said, and not an error, since plugins may learn of it otherwise.
func TestWhatNoPluginTakes(t *testing.T) {
	n := newNode(t, bridgeNet(`{"type":"portmap","capabilities":{"portMappings":true}}`))
	for i, tt := range []struct {
		net  string
		want []string
	}{{bridgeNet()(n), []string{"bandwidth", "portMappings"}}, {bridgeNet(`{"type":"portmap","capabilities":{"portMappings":true}}`)(n), []string{"bandwidth"}}} {
		n.configure("10-test.conflist", tt.net)
		p := testPod(i)
		p.PortMappings = []PortMapping{{HostPort: 18082, ContainerPort: 80}}
		p.Capabilities = map[string]any{"bandwidth": map[string]uint64{"ingressRate": 8e6, "ingressBurst": 8e5}}
		p.KeepMACs = map[string]HardwareAddr{"eth0": HardwareAddr(hardwareAddr("0a:58:0a:00:00:79"))}
		if got := n.setup(p).Record().Unclaimed; !slices.Equal(got, tt.want) {
			t.Errorf("unclaimed: %v, want %v", got, tt.want)
		}
		n.teardown(p)
	}
}

// askable is the bridge network whose addresses are the pod's to choose.
func askable(n *testNode) string {
	return conflist(fmt.Sprintf(`{"type":"bridge","bridge":%q,"isGateway":true,"capabilities":{"ips":true,"mac":true},
		"ipam":{"type":"static","routes":[{"dst":"0.0.0.0/0","gw":%q}]}}`, n.bridgeName(), n.gateway()))
}

func TestAddressesThatAPodAsksFor(t *testing.T) {
	n := newNode(t, askable)
	p := testPod(1)
	p.IPs = []string{strings.Replace(n.subnet().String(), ".0/24", ".77/24", 1)}
	p.MAC = HardwareAddr(hardwareAddr("0a:58:0a:00:00:77"))
	network := n.setup(p)
	if ip := network.IPs()[0].String(); !strings.HasSuffix(ip, ".77") || network.Interfaces()[0].MAC.String() != "0a:58:0a:00:00:77" {
		t.Errorf("address %s, interface %+v", ip, network.Interfaces()[0])
	}
	n.teardown(p)
	n.assertClean()
}

func TestAddressesThatAreNotGranted(t *testing.T) {
	mac := HardwareAddr(hardwareAddr("0a:58:0a:00:00:77"))
	for name, tt := range map[string]struct {
		net  func(*testNode) string
		ask  func(*Pod)
		want string
	}{
		"ips, which nobody knows": {bridgeNet(), func(p *Pod) { p.IPs = []string{"10.9.9.9"} }, `no plugin (bridge) declares the capability "ips"`},
		"mac, which nobody knows": {ptpNet, func(p *Pod) { p.MAC = mac }, `no plugin (ptp) declares the capability "mac"`},
		"ips, which is a lie": {func(n *testNode) string { return bridgeNet(`{"type":"fake","capabilities":{"ips":true}}`)(n) },
			func(p *Pod) { p.IPs = []string{"10.9.9.9/24"} }, "the pod asks for 10.9.9.9/24 and got [10.88."},
		"mac, which is a lie": {func(n *testNode) string { return bridgeNet(`{"type":"fake","capabilities":{"mac":true}}`)(n) },
			func(p *Pod) { p.MAC = mac }, "the pod asks for 0a:58:0a:00:00:77 and got another"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tt.net)
			n.plugin("fake", `[ $CNI_COMMAND = DEL ] || printf %s "$in" | sed 's/.*"prevResult"://; s/,"runtimeConfig".*$//'`)
			p := testPod(1)
			tt.ask(&p)
			_, err := n.Setup(t.Context(), p)
			if !errors.Is(err, ErrNotGranted) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Setup: %v", err)
			}
			n.assertClean()
		})
	}
}

// TestKeepMACs: what a guest had before a reboot it has again, whatever the plugins do, and they get their link back as
// they made it.
func TestKeepMACs(t *testing.T) {
	for name, net := range map[string]func(*testNode) string{"a plugin that is told": askable, "one that is not": bridgeNet(), "macvlan": macvlanNet} {
		for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
			t.Run(name+" "+string(plumbing), func(t *testing.T) {
				n := newNode(t, net)
				n.o.Plumbing = plumbing
				if name == "macvlan" {
					n.uplink()
				}
				p := testPod(1)
				if name == "a plugin that is told" {
					p.IPs = []string{strings.Replace(n.subnet().String(), ".0/24", ".77/24", 1)}
				}
				p.KeepMACs = map[string]HardwareAddr{"eth0": HardwareAddr(hardwareAddr("0a:58:0a:00:00:78"))}
				network := n.setup(p)
				if mac := network.Interfaces()[0].MAC.String(); mac != "0a:58:0a:00:00:78" {
					t.Errorf("MAC address %s", mac)
				}
				guest := newGuest(t, n, network, 0)
				guest.startDHCP().wait("bound")
				conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
				n.must(err)
				_ = conn.Close()
				n.teardown(p)
				n.assertClean()
			})
		}
	}
}

func TestGC(t *testing.T) {
	n := newNode(t, func(*testNode) string {
		return `{"cniVersion":"1.1.0","name":"podnet","plugins":[{"type":"fake"}]}`
	})
	n.plugin("fake", fmt.Sprintf(`[ $CNI_COMMAND = GC ] && printf %%s "$in" >$0.gc
		[ $CNI_COMMAND = ADD ] || exit 0
		nsenter --net=$CNI_NETNS sh -c "ip link add eth0 type veth peer name far; ip addr add %[1]s/24 dev eth0; ip link set eth0 up" >&2
		echo '{"cniVersion":"1.1.0","ips":[{"address":"%[1]s/24"}]}'`, n.gateway()))
	n.setup(testPod(1))
	n.must(n.GC(t.Context()))
	told, err := os.ReadFile(n.bin + "/fake.gc")
	n.must(err)
	want := fmt.Sprintf(`"cni.dev/valid-attachments":[{"containerID":%q,"ifname":"eth0"}]`, testPod(1).ID)
	if !strings.Contains(string(told), want) {
		t.Errorf("the plugin was told %s", told)
	}
	n.plugin("fake", `[ $CNI_COMMAND = GC ] || exit 0; echo '{"cniVersion":"1.1.0","code":7,"msg":"no broom"}'; exit 1`)
	if err := n.GC(t.Context()); err == nil || !strings.Contains(err.Error(), "no broom") {
		t.Errorf("GC: %v", err)
	}
}

func TestWatch(t *testing.T) {
	n := newNode(t, bridgeNet())
	ctx, cancel := context.WithCancel(t.Context())
	names, done := make(chan string, 8), make(chan error, 1)
	n.setup(testPod(1))
	n.setup(testPod(2))
	go func() { done <- n.Watch(ctx, func(name string) { names <- name }) }()
	seen := func() string {
		t.Helper()
		select {
		case name := <-names:
			return name
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was noticed")
			return ""
		}
	}
	// Until the watch is there only what it looks for itself is seen.
	n.must(removeNamespace(n.netnsPath(testPod(1))))
	for found := ""; found != testPod(1).NetnsName; {
		n.missing(func(name string) { found = name })
	}
	n.must(os.WriteFile(n.netnsPath(Pod{NetnsName: "of-someone-else"}), nil, 0o600))
	for i := 0; ; i++ {
		mark := n.netnsPath(Pod{NetnsName: fmt.Sprintf("%smark%d", Prefix, i)})
		n.must(os.WriteFile(mark, nil, 0o600))
		n.must(os.Remove(mark))
		select {
		case <-names:
		case <-time.After(20 * time.Millisecond):
			continue
		}
		break
	}
	n.must(os.Remove(n.netnsPath(Pod{NetnsName: "of-someone-else"})))
	n.must(removeNamespace(n.netnsPath(testPod(2))))
	for name := seen(); name != testPod(2).NetnsName; name = seen() {
		if !strings.Contains(name, "mark") {
			t.Errorf("%s was noticed", name)
		}
	}
	cancel()
	n.must(<-done)
}
