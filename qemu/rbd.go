package qemu

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/qemulet/qemulet/qmp"
)

// RBD is a disk in a Ceph cluster, which QEMU itself connects to. Its key is the
// content, in base64, of the file "secret:<disk id>": QEMU opens that file once
// more by its number in /proc, so QEMU's user has to be allowed to read it.
type RBD struct {
	// Monitor is the address and port of one of the cluster's monitors.
	Monitor string `json:"monitor"`
	Pool    string `json:"pool"`
	Image   string `json:"image"`
	// User is the Ceph client, without "client.".
	User string `json:"user"`
}

// rbdNode is the lower half of a disk in a Ceph cluster (BlockdevOptionsRbd of
// QAPI).
type rbdNode struct {
	Driver   string      `json:"driver"`
	Node     string      `json:"node-name"`
	Pool     string      `json:"pool"`
	Image    string      `json:"image"`
	User     string      `json:"user,omitempty"`
	Key      string      `json:"key-secret,omitempty"`
	Auth     []string    `json:"auth-client-required,omitempty"`
	Server   []rbdServer `json:"server"`
	ReadOnly bool        `json:"read-only,omitempty"`
	Discard  string      `json:"discard,omitempty"`
}

type rbdServer struct {
	Host string `json:"host"`
	Port string `json:"port"`
}

// secret is QEMU's object for what must not stand on a command line.
type secret struct {
	object
	File   string `json:"file"`
	Format string `json:"format"`
}

const driverRBD = "rbd"

// checkRBD refuses what cannot be a disk in a cluster.
func checkRBD(field string, d Disk) error {
	if d.RBD == nil {
		return nil
	}
	for _, f := range []struct{ name, value string }{{"pool", d.RBD.Pool}, {"image", d.RBD.Image}, {"user", d.RBD.User}} {
		if f.value == "" || strings.ContainsAny(f.value, "\x00\n") {
			return bad(field+".rbd."+f.name, f.value, "a name")
		}
	}
	if _, err := netip.ParseAddrPort(d.RBD.Monitor); err != nil {
		return bad(field+".rbd.monitor", d.RBD.Monitor, "an address and a port, such as 192.0.2.1:6789")
	}
	if d.Format != FormatRaw || d.HostDevice || d.Direct {
		return bad(field+".rbd", d.RBD.Image, "a disk of the format %s, neither hostDevice nor direct", FormatRaw)
	}
	return nil
}

// addRBD adds the lower half of a disk, and the key to it.
func (b *builder) addRBD(d Disk) (node string) {
	fd := b.file(FileNeed{Name: "secret:" + d.ID})
	key := d.ID + ".key"
	b.object(secret{object{"secret", key}, fmt.Sprintf("/proc/self/fd/%d", fd), "base64"})
	n := rbdNode{
		Driver: driverRBD, Node: d.ID + ".file", Pool: d.RBD.Pool, Image: d.RBD.Image, User: d.RBD.User, Key: key,
		Auth: []string{"cephx"}, Server: []rbdServer{serverOf(d.RBD.Monitor)}, ReadOnly: d.readOnly(),
	}
	if !n.ReadOnly {
		n.Discard = "unmap"
	}
	b.blockdev(n)
	return n.Node
}

func serverOf(monitor string) rbdServer {
	address, _ := netip.ParseAddrPort(monitor) // checkRBD has accepted it
	return rbdServer{Host: address.Addr().String(), Port: fmt.Sprint(address.Port())}
}

// ProbeRBD tells whether a QEMU binary can connect to Ceph clusters, which on
// many systems takes a module that comes in a package of its own. The answer is
// not kept: the package may be installed at any time. An error wraps
// ErrUnsupported if it cannot.
func ProbeRBD(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	_, err := overQMP(ctx, binary, func(m *qmp.Conn) error { return askRBD(ctx, m, binary) })
	return err
}

// askRBD asks for a disk whose key is missing. QEMU has found the driver if this
// is what it complains of; it does so before it connects to anything.
func askRBD(ctx context.Context, m *qmp.Conn, binary string) error {
	const key = "qemulet.no-such-key"
	err := m.Do(ctx, "blockdev-add", rbdNode{Driver: driverRBD, Node: "probe", Pool: "probe", Image: "probe", User: "probe", Key: key,
		Server: []rbdServer{{"127.0.0.1", "1"}}}, nil)
	switch {
	case err == nil:
		return fmt.Errorf("qemu: %s: a disk without its key was opened", binary)
	case strings.Contains(err.Error(), key):
		return nil
	case strings.Contains(err.Error(), "driver") || strings.Contains(err.Error(), "Invalid parameter"):
		return fmt.Errorf("qemu: %s lacks the block driver %s, for disks in Ceph clusters (on Debian it is in the package qemu-block-extra): %w", binary, driverRBD, ErrUnsupported)
	}
	return fmt.Errorf("qemu: %s: block driver %s: %w", binary, driverRBD, err)
}
