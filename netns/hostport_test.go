package netns

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestHostPorts takes the plugin that is in use: ports of the node lead to the guest, by every protocol that pods may name. SCTP
// is looked at as a rule only, since not every kernel speaks it.
func TestHostPorts(t *testing.T) {
	const hostIP, otherIP = "192.0.2.1", "192.0.2.2"
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, bridgeNet(`{"type":"portmap","capabilities":{"portMappings":true}}`))
			n.o.Plumbing = plumbing
			n.own(hostIP, otherIP)
			p := testPod(1)
			p.PortMappings = []PortMapping{
				{HostPort: 18080, ContainerPort: 8080}, {HostPort: 18053, ContainerPort: 5353, Protocol: "UDP", HostIP: hostIP},
				{HostPort: 18132, ContainerPort: 132, Protocol: "SCTP"},
			}
			guest := newGuest(t, n, n.setup(p), 0)
			guest.startDHCP().wait("bound")
			guest.echo("tcp", 8080)
			guest.echo("udp", 5353)
			for _, to := range []string{hostIP, otherIP, "127.0.0.1"} {
				assertEcho(t, "tcp", to+":18080", true)
			}
			assertEcho(t, "udp", hostIP+":18053", true)
			assertEcho(t, "udp", otherIP+":18053", false) // of another address of the node
			if rules := natRules(t); !strings.Contains(rules, "-p sctp -m sctp --dport 18132 -j DNAT") {
				t.Errorf("rules lack SCTP's:\n%s", rules)
			}
			n.teardown(p)
			if rules := natRules(t); strings.Contains(rules, "dport 18") || strings.Contains(rules, p.ID) {
				t.Errorf("rules left behind:\n%s", rules)
			}
			n.assertClean()
		})
	}
}

// own gives the node addresses, on its loopback.
func (n *testNode) own(addresses ...string) {
	n.t.Helper()
	l, err := openLinks()
	n.must(err)
	defer l.Close()
	lo, err := l.find("lo")
	n.must(err)
	for _, a := range addresses { // the next test does not mind them
		n.must(l.AddrReplace(lo, &netlink.Addr{IPNet: toIPNet(netip.MustParsePrefix(a + "/32"))}))
	}
}

// echo serves a port of the guest, and sends back what comes.
func (g *testGuest) echo(network string, port int) {
	g.t.Helper()
	address := fmt.Sprintf("0.0.0.0:%d", port)
	var stop io.Closer
	var wg sync.WaitGroup
	err := within(g.ns, func() error {
		if network == "udp" {
			conn, err := net.ListenPacket(network, address)
			if err == nil {
				stop = conn
				wg.Go(func() { echoPackets(conn) })
			}
			return err
		}
		l, err := net.Listen(network, address)
		if err == nil {
			stop = l
			wg.Go(func() { echoStreams(l) })
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = stop.Close()
		wg.Wait()
	})
}

func echoPackets(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(buf[:n], from)
	}
}

func echoStreams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}
}

func assertEcho(t *testing.T, network, address string, want bool) {
	t.Helper()
	err := func() error {
		conn, err := net.DialTimeout(network, address, 5*time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err = io.ReadFull(conn, make([]byte, 1))
		return err
	}()
	if (err == nil) != want {
		t.Errorf("%s to %s: %v", network, address, err)
	}
}
