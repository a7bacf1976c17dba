package netns

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// TestNoKindOfMessageCrosses: every kind of DHCP message that a guest may send is answered, or not, on the tap, and none is seen on
// the CNI side, broadcast or not.
func TestNoKindOfMessageCrosses(t *testing.T) {
	for _, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		t.Run(string(plumbing), func(t *testing.T) {
			n := newNode(t, bridgeNet())
			n.o.Plumbing = plumbing
			wire := startCapture(t)
			network := n.setup(testPod(1))
			guest := newGuest(t, n, network, 0)
			guest.startDHCP().wait("bound")
			c := guest.dhcpSocket(net.HardwareAddr(network.Interfaces()[0].MAC))
			ours, others := network.IPs()[0].AsSlice(), n.gateway().AsSlice()
			for _, server := range []string{"255.255.255.255", "169.254.254.2"} {
				for _, tt := range []struct {
					kind dhcpv4.MessageType
					mods []dhcpv4.Modifier
					want dhcpv4.MessageType // none: silence
				}{
					{dhcpv4.MessageTypeDiscover, nil, dhcpv4.MessageTypeOffer},
					{dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ours))}, dhcpv4.MessageTypeAck},
					{dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(others))}, dhcpv4.MessageTypeNak},
					{dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithClientIP(ours)}, dhcpv4.MessageTypeAck},
					{dhcpv4.MessageTypeInform, []dhcpv4.Modifier{dhcpv4.WithClientIP(ours)}, dhcpv4.MessageTypeAck},
					{dhcpv4.MessageTypeDecline, []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ours))}, dhcpv4.MessageTypeNone},
					{dhcpv4.MessageTypeRelease, []dhcpv4.Modifier{dhcpv4.WithClientIP(ours)}, dhcpv4.MessageTypeNone},
					{dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithClientIP(ours)}, dhcpv4.MessageTypeOffer}, // released before
					{dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithHwAddr(hardwareAddr(tunedMAC))}, dhcpv4.MessageTypeNone},
					{dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithHwAddr(hardwareAddr(tunedMAC)), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ours))}, dhcpv4.MessageTypeNone},
					{dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithGatewayIP(others)}, dhcpv4.MessageTypeNone},
					{dhcpv4.MessageTypeDiscover, []dhcpv4.Modifier{dhcpv4.WithBroadcast(false), dhcpv4.WithOption(dhcpv4.OptClientIdentifier(make([]byte, 300)))}, dhcpv4.MessageTypeOffer},
				} {
					if got := c.ask(server, tt.kind, tt.mods...); got != tt.want {
						t.Errorf("%v to %s is answered by %v, want %v", tt.kind, server, got, tt.want)
					}
				}
			}
			if leaked := wire.packets(); len(leaked) > 0 {
				t.Errorf("DHCP on the CNI side: %+v", leaked)
			}
		})
	}
}

// dhcpSocket is a client's socket in a guest that has its address.
type dhcpSocket struct {
	t    *testing.T
	mac  net.HardwareAddr
	conn net.PacketConn
}

func (g *testGuest) dhcpSocket(mac net.HardwareAddr) *dhcpSocket {
	g.t.Helper()
	c := &dhcpSocket{t: g.t, mac: mac}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlErr := raw.Control(func(fd uintptr) {
			if err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0"); err == nil {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}
		})
		if err == nil {
			err = controlErr
		}
		return err
	}}
	err := within(g.ns, func() (err error) {
		c.conn, err = config.ListenPacket(context.Background(), "udp4", ":68")
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// ask sends a message and returns what kind the answer is of. Behind it goes a DISCOVER, whose answer alone means silence.
func (c *dhcpSocket) ask(server string, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) dhcpv4.MessageType {
	c.t.Helper()
	asked := c.send(server, append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind)}, mods...)...)
	mark := c.send(server, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	answer := dhcpv4.MessageTypeNone
	buf := make([]byte, 1500)
	for {
		if err := c.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			c.t.Fatal(err)
		}
		size, _, err := c.conn.ReadFrom(buf)
		if err != nil {
			c.t.Fatalf("after %v to %s: %v", kind, server, err)
		}
		reply, err := dhcpv4.FromBytes(buf[:size])
		switch {
		case err != nil:
			c.t.Fatal(err)
		case reply.TransactionID == asked:
			answer = reply.MessageType()
		case reply.TransactionID == mark:
			return answer
		}
	}
}

func (c *dhcpSocket) send(server string, mods ...dhcpv4.Modifier) dhcpv4.TransactionID {
	c.t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(c.mac)}, mods...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(server), 67))
	if _, err := c.conn.WriteTo(m.ToBytes(), to); err != nil {
		c.t.Fatal(err)
	}
	return m.TransactionID
}
