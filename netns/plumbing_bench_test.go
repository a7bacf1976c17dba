package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// path is one way from the node to a guest.
type path struct {
	name string
	to   netip.Addr
	ns   string // the guest's

	rates, trips []float64 // bytes and round trips per second
}

// BenchmarkPlumbing measures TCP between the node and a guest by both plumbings, and by a bare tap made by hand. The guest
// is a namespace behind its tap, with the offloads that a virtual machine negotiates, so that no emulated processor hides
// the difference. The ways take turns, and the median of the turns counts (-benchtime 20x or more): the machine's other work is in all of
// them. The bare tap has neither the plugins' veth nor their bridge on its way.
func BenchmarkPlumbing(b *testing.B) {
	n := newNode(b, bridgeNet())
	ways := []*path{n.bareTap()}
	for i, plumbing := range []Plumbing{PlumbingRedirect, PlumbingBridge} {
		n.o.Plumbing = plumbing
		p := testPod(i)
		network, err := n.Setup(b.Context(), p)
		n.must(err)
		b.Cleanup(func() { n.must(n.Teardown(context.Background(), p)) })
		files, err := network.OpenTap(0, 1)
		n.must(err)
		nic := network.Interfaces()[0]
		ways = append(ways, &path{name: string(plumbing), to: network.IPs()[0],
			ns: n.plainGuest(string(plumbing), files[0], net.HardwareAddr(nic.MAC), netip.PrefixFrom(network.IPs()[0], 24), nic.MTU)})
	}
	b.ResetTimer()
	for range b.N {
		for _, w := range ways {
			w.measure(b)
		}
	}
	b.StopTimer()
	for _, w := range ways {
		b.ReportMetric(median(w.rates)/1e6, w.name+"-MB/s")
		b.ReportMetric(median(w.trips), w.name+"-trips/s")
		if w != ways[0] {
			b.ReportMetric(median(w.rates)/median(ways[0].rates), w.name+"-rate/bare")
			b.ReportMetric(median(w.trips)/median(ways[0].trips), w.name+"-trips/bare")
		}
	}
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// bareTap is a tap in the node's own namespace with the gateway's address.
func (n *testNode) bareTap() *path {
	n.t.Helper()
	const mtu = 1460
	subnet := netip.MustParsePrefix("10.87.0.1/24")
	tap, err := attachTap("bare", tapFlags(1))
	n.must(err)
	l, err := openLinks()
	n.must(err)
	defer l.Close()
	link, err := l.find("bare")
	n.must(err)
	n.must(l.LinkSetMTU(link, mtu))
	n.must(l.AddrAdd(link, &netlink.Addr{IPNet: toIPNet(subnet)}))
	n.must(l.LinkSetUp(link))
	to := subnet.Addr().Next()
	return &path{name: "bare", to: to, ns: n.plainGuest("bare", tap, randomMAC(), netip.PrefixFrom(to, 24), mtu)}
}

// plainGuest is a guest behind a tap that has its address without asking. It returns its namespace.
func (n *testNode) plainGuest(name string, tap *os.File, mac net.HardwareAddr, address netip.Prefix, mtu int) string {
	n.t.Helper()
	at := n.root + "/guests/" + name
	n.must(createNamespace(at, func() error { return nil }))
	n.t.Cleanup(func() {
		_ = removeNamespace(at)
		_ = unix.Unmount(n.root+"/guests", unix.MNT_DETACH)
	})
	ns, err := openNamespace(at)
	n.must(err)
	defer func() { _ = ns.Close() }()
	var nic *os.File
	n.must(within(ns, func() error {
		l, err := openLinks()
		if err != nil {
			return err
		}
		defer l.Close()
		if nic, err = attachTap("eth0", tapFlags(1)); err != nil {
			return err
		}
		link, err := l.find("eth0")
		if err != nil {
			return err
		}
		for _, do := range []func() error{
			func() error { return l.LinkSetHardwareAddr(link, mac) },
			func() error { return l.LinkSetMTU(link, mtu) },
			func() error { return l.AddrAdd(link, &netlink.Addr{IPNet: toIPNet(address)}) },
			func() error { return l.LinkSetUp(link) },
		} {
			if err := do(); err != nil {
				return err
			}
		}
		return nil
	}))
	n.cable(tap, nic)
	return at
}

// cable copies frames between two taps, with the offloads of a virtual machine's NIC.
func (n *testNode) cable(a, b *os.File) {
	const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	var ends []*os.File
	for _, f := range []*os.File{a, b} {
		n.must(unix.IoctlSetInt(int(f.Fd()), unix.TUNSETOFFLOAD, offloads))
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		n.must(err)
		n.must(unix.SetNonblock(fd, true))
		_ = f.Close()
		ends = append(ends, os.NewFile(uintptr(fd), "tap"))
	}
	var wg sync.WaitGroup
	forward := func(dst, src *os.File) {
		buf := make([]byte, 1<<17)
		for {
			size, err := src.Read(buf)
			if err != nil {
				return
			}
			_, _ = dst.Write(buf[:size])
		}
	}
	wg.Go(func() { forward(ends[0], ends[1]) })
	wg.Go(func() { forward(ends[1], ends[0]) })
	n.t.Cleanup(func() {
		for _, f := range ends {
			_ = f.Close()
		}
		wg.Wait()
	})
}

// measure sends from the guest to the node for a while, and then one byte to and fro for a while.
func (w *path) measure(b *testing.B) {
	conn, guest := w.connect(b)
	defer func() { _ = conn.Close() }()
	defer func() { _ = guest.Close() }()
	const span = 200 * time.Millisecond
	deadline := time.Now().Add(span)
	var wg sync.WaitGroup
	wg.Go(func() {
		chunk := make([]byte, 1<<16)
		for time.Now().Before(deadline) {
			if _, err := guest.Write(chunk); err != nil {
				return
			}
		}
		_, _ = guest.Write([]byte("end"))
	})
	start, bytes := time.Now(), 0
	buf := make([]byte, 1<<17)
	for bytes%(1<<16) != 3 {
		size, err := conn.Read(buf)
		if err != nil {
			b.Fatal(err)
		}
		bytes += size
	}
	w.rates = append(w.rates, float64(bytes)/time.Since(start).Seconds())
	wg.Wait()

	wg.Go(func() { _, _ = io.Copy(guest, guest) })
	start, deadline = time.Now(), time.Now().Add(span)
	trips := 0
	for ; time.Now().Before(deadline); trips++ {
		if _, err := conn.Write(buf[:1]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf[:1]); err != nil {
			b.Fatal(err)
		}
	}
	w.trips = append(w.trips, float64(trips)/time.Since(start).Seconds())
	_ = conn.Close()
	wg.Wait()
}

func (w *path) connect(b *testing.B) (node, guest net.Conn) {
	ns, err := openNamespace(w.ns)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	var l net.Listener
	if err := within(ns, func() (err error) { l, err = net.Listen("tcp", ":0"); return err }); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	node, err = net.DialTimeout("tcp", net.JoinHostPort(w.to.String(), fmt.Sprint(l.Addr().(*net.TCPAddr).Port)), 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	return node, <-accepted
}
