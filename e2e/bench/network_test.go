package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// handTap is a plugin that makes nothing but a tap with an address, as one would by hand.
const handTap = `cat >/dev/null
[ "$CNI_COMMAND" = ADD ] || exit 0
nsenter --net="$CNI_NETNS" sh -ec "ip tuntap add eth0 mode tap; ip addr add 10.97.0.5/24 dev eth0; ip link set eth0 up" >&2 || exit 1
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.97.0.5/24"}]}'
`

// way is a way to a guest.
type way struct {
	name        string
	dial        func(port int) (net.Conn, error)
	rate, trips samples // milliseconds
}

// BenchmarkNetwork measures TCP from a guest, and round trips to it, by both plumbings of a pod's link, and by a bare tap
// with nothing behind it. They take turns.
func BenchmarkNetwork(b *testing.B) {
	redirect := node.Start(b, node.Options{Args: []string{"--log-level", "info", "--network-plumbing", "redirect"}})
	bridge := node.Start(b, node.Options{Args: []string{"--log-level", "info", "--network-plumbing", "bridge"}})
	ways := []*way{bareTap(b, redirect)}
	leases := leasesAfterCrash(b, bridge)
	for name, n := range map[string]*node.Node{"redirect": redirect, "bridge": bridge} {
		n.WriteCNI(b, fmt.Sprintf(`{"cniVersion":"1.0.0","name":"e2e","plugins":[{"type":"ptp",
			"ipam":{"type":"host-local","dataDir":"%s/ipam","subnet":"%s0/24","routes":[{"dst":"0.0.0.0/0"}]}}]}`, n.Dir, n.Subnet))
		vm := servingVM(b, n, name)
		ip := vm.IP(b)
		ways = append(ways, &way{name: name, dial: func(port int) (net.Conn, error) {
			return n.Dial(context.Background(), "tcp", fmt.Sprintf("%s:%d", ip, port))
		}})
	}
	bare, pods := ways[0], slices.Clone(ways[1:])
	for range turns * *rounds {
		for _, w := range ways {
			w.measure(b)
		}
		slices.Reverse(ways) // none has the better place
	}
	for _, w := range pods {
		row{what: "16 MiB by TCP from a guest, " + w.name, unit: "ms", measured: w.rate, baseline: bare.rate, beside: "bare tap",
			goal: goal{ratio: 1 / 0.95}}.report(b)
		row{what: "round trip to a guest, " + w.name, unit: "ms", measured: w.trips, baseline: bare.trips, beside: "bare tap",
			goal: goal{ratio: 1 / 0.95}}.report(b)
	}
	leases.report(b)
}

// crashes is how often the daemon is killed under a guest that asks for leases.
const crashes = 5

// leasesAfterCrash measures from exec of the daemon, after its predecessor was killed, until a guest has a lease and has said so.
func leasesAfterCrash(b *testing.B, n *node.Node) row {
	b.Helper()
	n.PullTiny(b)
	vm := n.NewVM(b, "leases", nil)
	vm.Run(b)
	vm.WaitReady(b)
	vm.WaitNetwork(b)
	r := row{what: "a guest's DHCP, after the daemon was killed and started", unit: "ms", goal: goal{value: 1000}}
	clients := vm.PrepareLeaseClients(b)
	for range crashes {
		n.Kill9(b)
		clients.Begin(b)
		begin := time.Now()
		n.Restart(b)
		clients.Wait(b)
		r.measured.addTime(time.Since(begin))
	}
	vm.Remove(b)
	return r
}

// servingVM runs a guest that sends what it can on one port and sends back what it gets on another.
func servingVM(b *testing.B, n *node.Node, name string) *node.VM {
	b.Helper()
	n.PullTiny(b)
	vm := n.NewVM(b, name, nil)
	vm.Run(b)
	vm.WaitReady(b)
	vm.WaitNetwork(b)
	c := vm.Attach(b)
	c.Command("(while :; do nc -l -p 5001 -e cat /dev/zero; done) >/dev/null 2>&1 &")
	c.Command("(while :; do nc -l -p 5002 -e cat; done) >/dev/null 2>&1 &")
	c.Close()
	return vm
}

// bareTap is a guest on a tap that the kernel's own stack is behind.
func bareTap(b *testing.B, n *node.Node) *way {
	b.Helper()
	n.WritePlugin(b, "handtap", handTap)
	n.WriteCNI(b, `{"cniVersion":"1.0.0","name":"e2e","plugins":[{"type":"handtap"}]}`)
	vm := servingVM(b, n, "bare")
	netns := n.Dir + "/netns/qemulet-" + vm.PodID[8:20]
	out, err := exec.Command("nsenter", "--net="+netns, "ip", "addr", "add", "10.97.0.1/24", "dev", "eth0").CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return &way{name: "bare", dial: func(port int) (conn net.Conn, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			lockThread()
			if err = enter(netns); err == nil {
				conn, err = net.DialTimeout("tcp", fmt.Sprintf("10.97.0.5:%d", port), 5*time.Second)
			}
		}()
		<-done
		return conn, err
	}}
}

const (
	portion   = 16 << 20
	tripCount = 50
	turns     = 2 // in each round: many short ones, for what else the machine does in one of them is no difference between ways
)

func (w *way) measure(b *testing.B) {
	conn := w.connect(b, 5001)
	must(b, conn.SetDeadline(time.Now().Add(time.Minute)))
	buf := make([]byte, 1<<18)
	_, err := io.ReadFull(conn, buf) // TCP has found its pace
	must(b, err)
	begin := time.Now()
	_, err = io.CopyBuffer(io.Discard, io.LimitReader(conn, portion), buf)
	must(b, err)
	w.rate.addTime(time.Since(begin))
	conn.Close()

	conn = w.connect(b, 5002)
	defer conn.Close()
	must(b, conn.SetDeadline(time.Now().Add(time.Minute)))
	begin = time.Now()
	for range tripCount {
		_, err := conn.Write(buf[:1])
		must(b, err)
		_, err = io.ReadFull(conn, buf[:1])
		must(b, err)
	}
	w.trips.addTime(time.Since(begin) / tripCount)
}

// connect waits until the guest listens again.
func (w *way) connect(b *testing.B, port int) (conn net.Conn) {
	b.Helper()
	node.Eventually(b, 30*time.Second, func() (err error) {
		conn, err = w.dial(port)
		return err
	})
	return conn
}
