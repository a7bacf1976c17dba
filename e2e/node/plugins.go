package node

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// WritePlugin adds a CNI plugin, a shell script, which is found before those of the machine.
func (n *Node) WritePlugin(tb testing.TB, name, script string) {
	tb.Helper()
	must(tb, os.MkdirAll(n.path("plugins"), 0o755))
	must(tb, os.WriteFile(n.path("plugins", name), []byte("#!/bin/sh\n"+script), 0o755))
}

// Routed is a plugin that connects pods as Calico does: a single address, and a router at 169.254.1.1 that is on no
// subnet; by IPv6 the router is known by a link-local address. Its configuration has "v4" and "v6", the addresses. Each
// node can have one such pod.
const Routed = `
conf=$(cat)
field() { printf %s "$conf" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
v4=$(field v4) v6=$(field v6)
inpod() { nsenter --net="$CNI_NETNS" "$@"; }
[ "$CNI_COMMAND" = DEL ] && { ip link del cali0 2>/dev/null; exit 0; }
[ "$CNI_COMMAND" = ADD ] || exit 0
{
	set -e
	ip link add cali0 address ee:ee:ee:ee:ee:ee mtu 1440 type veth peer name tmp0 mtu 1440
	ip link set tmp0 netns "$CNI_NETNS"
	inpod ip link set tmp0 name "$CNI_IFNAME"
	ip addr add 169.254.1.1/32 dev cali0
	ip link set cali0 up
	inpod ip addr add $v4/32 dev "$CNI_IFNAME"
	inpod ip addr add $v6/128 dev "$CNI_IFNAME" nodad
	inpod ip link set "$CNI_IFNAME" up
	inpod ip route add 169.254.1.1 dev "$CNI_IFNAME" scope link
	inpod ip route add default via 169.254.1.1
	inpod ip -6 route add default via fe80::ecee:eeff:feee:eeee dev "$CNI_IFNAME"
	ip route add $v4/32 dev cali0
	ip -6 route add $v6/128 dev cali0
} >&2 || exit 1
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"'$CNI_IFNAME'","sandbox":"'$CNI_NETNS'"}],
	"ips":[{"interface":0,"address":"'$v4'/32"},{"interface":0,"address":"'$v6'/128"}],"dns":{}}' | tr -d '\n\t'
`

// Second is a plugin for the end of a chain that adds an interface "net1" of another network, given as "net1" in its
// configuration, as Multus does.
const Second = `
conf=$(cat)
net1=$(printf %s "$conf" | sed 's/.*"net1":\({.*}\),"prevResult".*/\1/')
export CNI_IFNAME=net1
made=$(printf %s "$net1" | /usr/lib/cni/bridge) || { printf %s "$made"; exit 1; }
[ "$CNI_COMMAND" = ADD ] || exit 0
ips=$(printf %s "$made" | tr -d ' \n\t' | sed 's/.*"ips":\[\([^]]*\)\].*/\1/')
printf %s "$conf" | sed 's/.*"prevResult"://; s/,"type":"second"}$//' | sed 's|"ips":\[\([^]]*\)\]|"ips":[\1,'"$ips"']|'
`

// Capture records what must not be seen on the node's side: DHCP, and router advertisements.
type Capture struct {
	file *os.File
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen []string
}

// StartCapture captures on all links of the node until the test ends.
func (n *Node) StartCapture(tb testing.TB) *Capture {
	tb.Helper()
	fd := -1
	must(tb, n.ns.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.ETH_P_ALL<<8&0xff00|unix.ETH_P_ALL>>8)
		return err
	}))
	c := &Capture{file: os.NewFile(uintptr(fd), "capture")}
	c.wg.Go(c.run)
	tb.Cleanup(func() {
		c.file.Close()
		c.wg.Wait()
	})
	return c
}

func (c *Capture) run() {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.file.Read(buf)
		if err != nil {
			return
		}
		if what := leak(buf[:n]); what != "" {
			c.mu.Lock()
			c.seen = append(c.seen, what)
			c.mu.Unlock()
		}
	}
}

// Seen lists what was captured.
func (c *Capture) Seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.seen...)
}

// leak describes a frame that must not be seen, "" for others.
func leak(f []byte) string {
	if len(f) < 42 {
		return ""
	}
	port := func(at int) int { return int(binary.BigEndian.Uint16(f[at:])) }
	switch binary.BigEndian.Uint16(f[12:]) {
	case unix.ETH_P_IP:
		if f[23] == unix.IPPROTO_UDP && (port(36) == 67 || port(36) == 68) {
			return fmt.Sprintf("DHCP to %v", netip.AddrFrom4([4]byte(f[30:34])))
		}
	case unix.ETH_P_IPV6:
		if len(f) < 58 {
			return ""
		}
		to := netip.AddrFrom16([16]byte(f[38:54]))
		if f[20] == unix.IPPROTO_UDP && (port(56) == 546 || port(56) == 547) {
			return fmt.Sprintf("DHCPv6 to %v", to)
		}
		if f[20] == unix.IPPROTO_ICMPV6 && f[54] == 134 {
			return fmt.Sprintf("router advertisement to %v", to)
		}
	}
	return ""
}
