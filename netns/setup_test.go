package netns

import (
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestGuestTakesThePlaceOfAContainer(t *testing.T) {
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) { guestTakesThePlaceOfAContainer(t, plumbing) })
	}
}

func guestTakesThePlaceOfAContainer(t *testing.T, plumbing Plumbing) {
	n := newNode(t, bridgeNet())
	n.o.Plumbing = plumbing
	wire := startCapture(t)
	p := testPod(1)
	network := n.setup(p)
	nic := network.Interfaces()[0]
	guest := newGuest(t, n, network, 0)
	client := guest.startDHCP()

	told := client.wait("bound")
	ip := network.IPs()[0]
	want := map[string]string{
		"ip": ip.String(), "mask": "24", "router": n.gateway().String(), "dns": "10.96.0.10", "mtu": "1460",
		"hostname": "vm-1", "domain": "default.svc.cluster.local", "search": "default.svc.cluster.local svc.cluster.local",
		"lease": "86400", "serverid": "169.254.254.2",
	}
	for name, value := range want {
		if told[name] != value {
			t.Errorf("DHCP: %s = %q, want %q", name, told[name], value)
		}
	}
	if routes := told["staticroutes"]; routes != "" {
		t.Errorf("DHCP: staticroutes = %q beside a lone default route", routes)
	}
	if !n.subnet().Contains(ip) || nic.Name != "eth0" || nic.MTU != 1460 || nic.Plumbing != plumbing {
		t.Errorf("interface %+v, address %s", nic, ip)
	}

	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if said, _ := io.ReadAll(conn); string(said) != "hello from the guest" {
		t.Errorf("the guest said %q", said)
	}
	assertNeighbour(t, ip, nic.MAC)
	if _, err := network.DialFromNode(t.Context(), "tcp", 1); err == nil || !strings.Contains(err.Error(), "guest's port 1") {
		t.Errorf("a port where nobody listens: %v", err)
	}
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP on the CNI side: %+v", leaked)
	}
	n.teardown(p)
	n.assertClean()
}

// assertNeighbour verifies that the node knows the guest by the MAC address of the CNI result.
func assertNeighbour(t *testing.T, ip netip.Addr, mac HardwareAddr) {
	t.Helper()
	list, err := netlink.NeighList(0, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, neighbour := range list {
		if toAddr(neighbour.IP) == ip && neighbour.HardwareAddr.String() != mac.String() {
			t.Errorf("the node knows %s as %s, want %s", ip, neighbour.HardwareAddr, mac)
		}
	}
}

func TestRenewalIsAnsweredUnicastAndNowhereElse(t *testing.T) {
	n := newNode(t, bridgeNet())
	wire := startCapture(t)
	network := n.setup(testPod(1))
	guest := newGuest(t, n, network, 0)
	var inside *capture
	inNamespace(t, guest.path, func(*links) error {
		inside = startCapture(t)
		return nil
	})
	client := guest.startDHCP()
	client.wait("bound")
	before := len(inside.packets())
	client.renew()
	told := client.wait("renew")
	if told["ip"] != network.IPs()[0].String() {
		t.Errorf("renewed %q", told["ip"])
	}
	unicast := slices.ContainsFunc(inside.packets()[before:], func(p captured) bool {
		return p.port == 67 && p.dst == netip.MustParseAddr("169.254.254.2")
	})
	if !unicast {
		t.Errorf("the renewal was not sent to the server: %+v", inside.packets()[before:])
	}
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP on the CNI side: %+v", leaked)
	}
}

func TestServerIsReachableWithoutRouter(t *testing.T) {
	n := newNode(t, func(n *testNode) string {
		return conflist(`{"type":"bridge","bridge":"` + n.bridgeName() + `","isGateway":false,
			"ipam":{"type":"host-local","dataDir":"` + n.ipam + `","subnet":"` + n.subnet().String() + `"}}`)
	})
	wire := startCapture(t)
	network := n.setup(testPod(1))
	guest := newGuest(t, n, network, 0)
	client := guest.startDHCP()
	told := client.wait("bound")
	if told["router"] != "" || told["staticroutes"] != "169.254.254.2/32 0.0.0.0" {
		t.Errorf("router %q, staticroutes %q", told["router"], told["staticroutes"])
	}
	client.renew()
	client.wait("renew") // the client resolves the server's address by ARP
	if leaked := wire.packets(); len(leaked) > 0 {
		t.Errorf("DHCP or its ARP on the CNI side: %+v", leaked)
	}
}

func TestCaptureWouldSeeALeak(t *testing.T) {
	wire := startCapture(t)
	conn, err := net.Dial("udp", "127.0.0.1:67")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(make([]byte, 300)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-wire.more:
	case <-time.After(10 * time.Second):
		t.Error("the capture sees nothing")
	}
}

func TestNamespaceHasNeitherAddressNorIPv6(t *testing.T) {
	for plumbing, names := range map[Plumbing][]string{
		PlumbingBridge:   {"br0", "eth0", "lo", "tap0"},
		PlumbingRedirect: {"eth0", "lo", "tap0"},
	} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, bridgeNet())
			n.o.Plumbing = plumbing
			network := n.setup(testPod(1))
			inPod(t, network.Record(), func(l *links) error {
				if got := linkNames(l); !reflect.DeepEqual(got, names) {
					t.Errorf("links %v", got)
				}
				assertMute(t, l)
				return assertLinks(t, l, network.Interfaces()[0], names)
			})
		})
	}
}

// assertMute verifies that the pod's namespace has nothing to send from.
func assertMute(t *testing.T, l *links) {
	t.Helper()
	addrs, err := l.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if !a.IP.IsLoopback() {
			t.Errorf("address %s in the pod's namespace", a)
		}
	}
	if routes, _ := l.RouteList(nil, netlink.FAMILY_V4); len(routes) > 0 {
		t.Errorf("routes in the pod's namespace: %v", routes)
	}
}

func assertLinks(t *testing.T, l *links, nic Interface, names []string) error {
	for _, name := range names {
		link, err := l.existing(name)
		if err != nil || name == "lo" {
			return err
		}
		if link.Attrs().MTU != 1460 {
			t.Errorf("MTU of %s is %d", name, link.Attrs().MTU)
		}
		hasMAC := link.Attrs().HardwareAddr.String() == nic.MAC.String()
		if name == "eth0" && hasMAC != (nic.Plumbing == PlumbingRedirect) {
			t.Errorf("the link has the MAC address %s, the guest %s", link.Attrs().HardwareAddr, nic.MAC)
		}
	}
	return nil
}

func TestPointToPointRoutesEveryNeighbour(t *testing.T) {
	n := newNode(t, ptpNet)
	network := n.setup(testPod(1))
	guest := newGuest(t, n, network, 0)
	told := guest.startDHCP("-O", "121").wait("bound")
	gw := n.gateway().String()
	if told["mask"] != "32" || told["router"] != "" {
		t.Errorf("mask %q, router %q", told["mask"], told["router"])
	}
	want := gw + "/32 0.0.0.0 " + n.subnet().String() + " " + gw + " 0.0.0.0/0 " + gw
	if told["staticroutes"] != want {
		t.Errorf("staticroutes %q, want %q", told["staticroutes"], want)
	}
	conn, err := network.DialFromNode(t.Context(), "tcp", guest.listen())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestPluginsUndoTheirWork(t *testing.T) {
	n := newNode(t, bridgeNet(`{"type":"portmap","capabilities":{"portMappings":true}}`))
	p := testPod(1)
	p.PortMappings = []PortMapping{{HostPort: 18080, ContainerPort: 80, Protocol: "TCP"}}
	n.setup(p)
	if rules := natRules(t); !strings.Contains(rules, "18080") || !strings.Contains(rules, "CNI-") {
		t.Errorf("the plugins made no rules:\n%s", rules)
	}
	n.teardown(p)
	if rules := natRules(t); strings.Contains(rules, "18080") || strings.Contains(rules, p.ID) {
		t.Errorf("rules left behind:\n%s", rules)
	}
	n.assertClean()
}

func TestRecordSurvivesJSON(t *testing.T) {
	n := newNode(t, bridgeNet())
	network := n.setup(testPod(1))
	text := toJSON(t, network.Record())
	if !strings.Contains(text, `"mac":"`+network.Interfaces()[0].MAC.String()+`"`) {
		t.Errorf("record %s", text)
	}
	var back Record
	if err := json.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	if again := toJSON(t, back); again != text {
		t.Errorf("record\n%s\nbecame\n%s", text, again)
	}
}

func TestOpenTap(t *testing.T) {
	n := newNode(t, bridgeNet())
	p := testPod(1)
	p.Queues = 2
	network := n.setup(p)
	files, err := network.OpenTap(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	for _, f := range files {
		req, _ := unix.NewIfreq("")
		if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNGETIFF, req); err != nil {
			t.Fatal(err)
		}
		if req.Name() != "tap0" || req.Uint16()&unix.IFF_VNET_HDR == 0 || req.Uint16()&unix.IFF_MULTI_QUEUE == 0 {
			t.Errorf("descriptor of %s with flags %#x", req.Name(), req.Uint16())
		}
	}
	if _, err := network.OpenTap(0, 3); err == nil || !strings.Contains(err.Error(), "made for 2") {
		t.Errorf("three queues of two: %v", err)
	}
	if _, err := network.OpenTap(1, 1); err == nil {
		t.Error("a second interface was opened")
	}
}

func TestOpenTapTwice(t *testing.T) {
	n := newNode(t, bridgeNet())
	network := n.setup(testPod(1))
	files, err := network.OpenTap(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := network.OpenTap(0, 1); err == nil || !strings.Contains(err.Error(), "holds it open") {
		t.Errorf("second open: %v", err)
	}
	closeAll(files)
	files, err = network.OpenTap(0, 1)
	if err != nil {
		t.Errorf("open after close: %v", err)
	}
	closeAll(files)
}
