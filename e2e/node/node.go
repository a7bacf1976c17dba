package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	bridge = "qbr0"
	// MTU of the pod network; not the usual one, so that a guest that was not told has the wrong one.
	MTU = 1460
)

// Options change what Start makes; the zero value is a whole node with a running daemon.
type Options struct {
	Binary string   // the daemon's program; "" is bin/qemulet
	Args   []string // more arguments for "qemulet serve"
	Env    []string // more environment
	NoCNI  bool     // no CNI configuration
}

// Node is one node. Its methods that take a testing.TB fail the test instead of returning an error.
type Node struct {
	Dir    string // of everything below; short, because socket paths must be
	Subnet string // of the pods: "10.88.7."
	Web    *Web   // where images come from

	options Options
	ns      namespace
	marked  map[string]bool // files that are not leaks

	daemon  *daemon
	conn    *grpc.ClientConn
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient
}

// Start makes a node, starts the daemon and waits until it answers. Everything is undone when the test ends; the
// folder is kept if E2E_KEEP is set.
func Start(tb testing.TB, o Options) *Node {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs real virtual machines; not with -short")
	}
	if os.Geteuid() != 0 {
		tb.Fatal("needs root: network namespaces, taps, cgroups")
	}
	sweep(tb)
	n := build(tb, o)
	n.StartDaemon(tb)
	n.Mark(tb)
	return n
}

// New makes a node without starting the daemon.
func New(tb testing.TB, o Options) *Node {
	tb.Helper()
	sweep(tb)
	return build(tb, o)
}

func build(tb testing.TB, o Options) *Node {
	tb.Helper()
	id := randomHex(3)
	n := &Node{Dir: dirPrefix + id, Subnet: fmt.Sprintf("10.88.%d.", subnetOctet(id)), options: o}
	tb.Cleanup(func() { n.remove(tb) })
	for _, d := range []string{"run", "state", "cni", "ipam", "images.d", "netns", "logs", "cfg"} {
		must(tb, os.MkdirAll(n.path(d), 0o755))
	}
	must(tb, claim(n.Dir))
	ns, err := newNamespace("qe2e-" + id)
	n.ns = ns
	must(tb, err)
	if !o.NoCNI {
		n.WriteCNI(tb, n.BridgeConfig(""))
	}
	n.Web = newWeb(tb, n)
	must(tb, os.WriteFile(n.path("crictl.yaml"), []byte(fmt.Sprintf(
		"runtime-endpoint: unix://%[1]s\nimage-endpoint: unix://%[1]s\ntimeout: 120\n", n.Socket())), 0o644))
	return n
}

func (n *Node) path(elem ...string) string { return filepath.Join(append([]string{n.Dir}, elem...)...) }

// Socket is the path of the daemon's CRI socket.
func (n *Node) Socket() string { return n.path("run", "cri.sock") }

// APISocket is the path of the daemon's api socket.
func (n *Node) APISocket() string { return n.path("run", "api.sock") }

// Netns is the name of the network namespace that is the node.
func (n *Node) Netns() string { return n.ns.name }

// CgroupParent is the cgroup below which the node's pods have theirs.
func (n *Node) CgroupParent() string { return "/" + n.ns.name }

// Enter prefixes a command line so that it runs in the node's network.
func (n *Node) Enter(argv ...string) []string { return n.ns.enter(argv...) }

// BridgeConfig is the CNI configuration of a bridge, and of more plugins after it, each with a comma before.
func (n *Node) BridgeConfig(more string) string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "e2e",
  "plugins": [{
    "type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": false, "mtu": %d,
    "ipam": {
      "type": "host-local", "dataDir": %q,
      "ranges": [[{"subnet": "%s0/24"}]],
      "routes": [{"dst": "0.0.0.0/0"}]
    }
  }%s]
}`, bridge, MTU, n.path("ipam"), n.Subnet, more)
}

// WriteCNI replaces the CNI configuration; "" removes it.
func (n *Node) WriteCNI(tb testing.TB, conflist string) {
	tb.Helper()
	file := n.path("cni", "10-e2e.conflist")
	if conflist == "" {
		must(tb, os.Remove(file))
		return
	}
	must(tb, os.WriteFile(file+".tmp", []byte(conflist), 0o644))
	must(tb, os.Rename(file+".tmp", file))
}

// WriteBridgeCNI puts the working configuration back.
func (n *Node) WriteBridgeCNI(tb testing.TB) { tb.Helper(); n.WriteCNI(tb, n.BridgeConfig("")) }

// remove ends what runs and deletes what is there. After a failure it first says what the daemon and QEMU had to say.
func (n *Node) remove(tb testing.TB) {
	if tb.Failed() {
		n.report(tb)
	}
	n.disconnect()
	if n.daemon != nil {
		n.daemon.kill()
	}
	for _, p := range n.processes() {
		p.kill()
	}
	if n.Web != nil {
		n.Web.close()
	}
	n.removeMounts()
	n.removeCgroups()
	if n.ns.name != "" {
		if err := n.ns.remove(); err != nil {
			tb.Log(err)
		}
	}
	if os.Getenv("E2E_KEEP") != "" {
		os.Remove(n.path("owner")) // or the next run would sweep it away
		tb.Logf("kept: %s", n.Dir)
		return
	}
	os.RemoveAll(n.Dir)
}

// report logs the ends of the log files.
func (n *Node) report(tb testing.TB) {
	files, _ := filepath.Glob(n.path("run", "vm", "*", "qemu.log"))
	pods, _ := filepath.Glob(n.path("logs", "*", "*", "*"))
	for _, f := range append(append([]string{n.path("serve.log")}, files...), pods...) {
		tb.Logf("== end of %s\n%s", f, tail(f, 40))
	}
}

func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// subnetOctet spreads nodes over subnets. They would not meet anyway; different addresses make logs easier to read.
func subnetOctet(id string) int {
	var v int
	fmt.Sscanf(id[:2], "%x", &v)
	return v
}

// Eventually calls f until it returns nil, and fails with its last error when that takes longer than limit.
func Eventually(tb testing.TB, limit time.Duration, f func() error) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %v", limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// SmallState puts the daemon's state on a file system of the given size. Only before the daemon is started.
func (n *Node) SmallState(tb testing.TB, bytes int) {
	tb.Helper()
	must(tb, command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=0755", bytes), "tmpfs", n.path("state")))
}

// Fill writes a file until no space is left.
func (n *Node) Fill(tb testing.TB, path string) {
	tb.Helper()
	f, err := os.Create(path)
	must(tb, err)
	defer f.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		tb.Fatal(err)
	}
}

// SmallSockets keeps TCP from buffering more than a few KiB for a connection on the node, so that a reader who has stopped
// is soon felt by the writer.
func (n *Node) SmallSockets(tb testing.TB) {
	tb.Helper()
	must(tb, n.ns.do(func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/tcp_rmem", []byte("4096 8192 16384"), 0),
			os.WriteFile("/proc/sys/net/ipv4/tcp_wmem", []byte("4096 8192 16384"), 0))
	}))
}
