package netns

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testGuest stands for a virtual machine: a namespace whose eth0 is wired to a pod's tap, as a hypervisor wires its NIC.
type testGuest struct {
	t    *testing.T
	path string
	ns   *os.File
}

func newGuest(t *testing.T, n *testNode, network *Network, nic int) *testGuest {
	t.Helper()
	name := fmt.Sprintf("guest-%s-%d", network.Record().Pod.Name, nic)
	g := &testGuest{t: t, path: filepath.Join(n.root, "guests", name)}
	dir := filepath.Dir(g.path)
	if err := createNamespace(g.path, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = removeNamespace(g.path)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	var err error
	if g.ns, err = openNamespace(g.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.ns.Close() })
	g.wire(network, nic)
	return g
}

// wire joins the guest's NIC and the tap in user space. Both carry the same virtio-net header, so frames pass as they are.
func (g *testGuest) wire(network *Network, i int) {
	g.t.Helper()
	files, err := network.OpenTap(i, 1)
	if err != nil {
		g.t.Fatal(err)
	}
	nic := network.Interfaces()[i]
	var guestNIC *os.File
	err = within(g.ns, func() error {
		l, err := openLinks()
		if err != nil {
			return err
		}
		defer l.Close()
		if guestNIC, err = attachTap("eth0", tapFlags(1)); err != nil {
			return err
		}
		link, err := l.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := l.LinkSetHardwareAddr(link, net.HardwareAddr(nic.MAC)); err != nil {
			return err
		}
		if err := l.loopbackUp(); err != nil {
			return err
		}
		return l.LinkSetUp(link)
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.pump(pollable(g.t, files[0]), pollable(g.t, guestNIC))
}

// pollable moves a descriptor to the runtime's poller, so that Close ends a blocked Read.
func pollable(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	return os.NewFile(uintptr(fd), f.Name())
}

func (g *testGuest) pump(a, b *os.File) {
	var wg sync.WaitGroup
	copyFrames := func(dst, src *os.File) {
		buf := make([]byte, 1<<17)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			_, _ = dst.Write(buf[:n])
		}
	}
	wg.Go(func() { copyFrames(a, b) })
	wg.Go(func() { copyFrames(b, a) })
	g.t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
		wg.Wait()
	})
}

// udhcpcScript configures the guest as distributions do and prints what it was told.
const udhcpcScript = `#!/bin/sh
case "$1" in
deconfig) ip addr flush dev $interface; ip link set $interface up ;;
bound|renew)
	ip addr replace $ip/$mask dev $interface
	[ -n "$mtu" ] && ip link set $interface mtu $mtu
	if [ -n "$staticroutes" ]; then
		set -- "$1" $staticroutes
		event=$1; shift
		while [ $# -ge 2 ]; do
			if [ "$2" = 0.0.0.0 ]; then ip route replace $1 dev $interface
			else ip route replace $1 via $2 dev $interface; fi
			shift 2
		done
		set -- "$event"
	elif [ -n "$router" ]; then ip route replace default via $router dev $interface; fi
	;;
esac
echo "EVENT $1"
env
echo END
`

// dhcpClient is a running busybox udhcpc.
type dhcpClient struct {
	t      *testing.T
	cmd    *exec.Cmd
	events chan map[string]string
}

// startDHCP starts a real client in the guest.
func (g *testGuest) startDHCP(args ...string) *dhcpClient {
	g.t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		g.t.Fatal("busybox is needed as DHCP client (Debian's busybox): ", err)
	}
	script := filepath.Join(g.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(udhcpcScript), 0o755); err != nil {
		g.t.Fatal(err)
	}
	c := &dhcpClient{t: g.t, events: make(chan map[string]string, 16)}
	c.cmd = exec.Command(busybox, append([]string{"udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "20", "-T", "1", "-O", "mtu", "-O", "search"}, args...)...)
	c.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	c.cmd.Stderr = testWriter{g.t}
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		err = within(g.ns, c.cmd.Start)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.read(stdout) })
	g.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		wg.Wait()
		_ = c.cmd.Wait()
	})
	return c
}

func (c *dhcpClient) read(r io.Reader) {
	defer close(c.events)
	var event map[string]string
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		name, value, _ := strings.Cut(line, "=")
		switch {
		case strings.HasPrefix(line, "EVENT "):
			event = map[string]string{"EVENT": strings.TrimPrefix(line, "EVENT ")}
		case line == "END":
			c.events <- event
		case event != nil:
			event[name] = value
		}
	}
}

// wait returns what the client was told at the next event of that kind.
func (c *dhcpClient) wait(kind string) map[string]string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	for {
		select {
		case e, ok := <-c.events:
			if !ok {
				c.t.Fatalf("the DHCP client ended before %q", kind)
			}
			if e["EVENT"] == kind {
				return e
			}
		case <-ctx.Done():
			c.t.Fatalf("no %q from the DHCP client", kind)
		}
	}
}

func (c *dhcpClient) renew() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		c.t.Fatal(err)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// listen opens a TCP listener in the guest that greets and hangs up.
func (g *testGuest) listen() uint16 {
	g.t.Helper()
	return g.listenOn("tcp")
}

// listenOn listens on any port, with "tcp6" for who comes by IPv6 only.
func (g *testGuest) listenOn(network string) uint16 {
	g.t.Helper()
	var listener net.Listener
	err := within(g.ns, func() (err error) {
		listener, err = net.Listen(network, ":0")
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "hello from the guest")
			_ = conn.Close()
		}
	})
	g.t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}
