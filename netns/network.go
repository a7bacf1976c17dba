package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/qemulet/qemulet/netns/dhcp"
)

// Network is a pod's network in service: its guest's DHCP requests are answered until Close. It is safe for concurrent
// use.
type Network struct {
	m      *Manager
	record Record

	mu      sync.Mutex
	servers []*dhcp.Server
}

// newNetwork starts the DHCP servers and takes over the sockets.
func newNetwork(m *Manager, r Record, sockets []dhcp.Link) *Network {
	n := &Network{m: m, record: r}
	for i, socket := range sockets {
		if socket.Guest != nil {
			n.servers = append(n.servers, dhcp.Serve(socket, lease(r, r.Interfaces[i])))
		}
	}
	return n
}

func lease(r Record, nic Interface) dhcp.Lease {
	address, _ := nic.ipv4()
	l := dhcp.Lease{
		MAC:      net.HardwareAddr(nic.MAC),
		Address:  address,
		DNS:      r.DNS.Servers,
		Searches: r.DNS.Searches,
		Hostname: r.Pod.Hostname,
		MTU:      nic.MTU,
	}
	for _, p := range nic.Addresses {
		if p.Addr().Is6() {
			l.Addresses6 = append(l.Addresses6, p)
		}
	}
	for _, route := range nic.Routes {
		l.Routes = append(l.Routes, dhcp.Route(route))
	}
	return l
}

// Record returns what Open needs to serve this network again. It does not change during the network's life.
func (n *Network) Record() Record { return n.record }

// Interfaces returns the guest's NICs in their order.
func (n *Network) Interfaces() []Interface { return slices.Clone(n.record.Interfaces) }

// IPs returns the pod's addresses, its first IPv4 address before all others.
func (n *Network) IPs() []netip.Addr { return slices.Clone(n.record.IPs) }

// OpenTap opens queue pairs of the tap behind the i-th interface, for a hypervisor: packets have a virtio-net header
// (IFF_VNET_HDR) of the kernel's default size. queues may be less than the tap was made for, and 0 means 1. The caller
// closes the files. A tap that another process holds open is an error matching EBUSY, one that is gone ErrGone.
func (n *Network) OpenTap(i, queues int) (files []*os.File, err error) {
	if i < 0 || i >= len(n.record.Interfaces) {
		return nil, fmt.Errorf("netns: pod %s: interface %d: there are %d", n.record.Pod.ID, i, len(n.record.Interfaces))
	}
	nic := n.record.Interfaces[i]
	if nic.VF != nil {
		return nil, fmt.Errorf("netns: pod %s: interface %s is the PCI device %s and has no tap", n.record.Pod.ID, nic.Name, nic.VF.PCI)
	}
	if queues = max(queues, 1); queues > nic.Queues {
		return nil, fmt.Errorf("netns: pod %s: interface %s: %d queues: its tap was made for %d", n.record.Pod.ID, nic.Name, queues, nic.Queues)
	}
	ns, err := openNamespace(n.record.NetnsPath)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	err = within(ns, func() error {
		files, err = openQueues(nic, queues)
		return err
	})
	return files, err
}

// DialFromNode connects to a port of the guest, at the pod's address, from the network namespace of this process, as any
// client on the node does. (In the pod's own namespace nobody has an address that the guest could answer to.) network
// is "tcp" or "udp". Of a pod with several addresses the first counts at which the guest answers.
func (n *Network) DialFromNode(ctx context.Context, network string, port uint16) (net.Conn, error) {
	if len(n.record.IPs) == 0 {
		return nil, fmt.Errorf("netns: pod %s has no address", n.record.Pod.ID)
	}
	var dialer net.Dialer
	var errs []error
	for _, ip := range n.record.IPs {
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(ip.String(), strconv.Itoa(int(port))))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("netns: pod %s: connect to the guest's port %d: %w", n.record.Pod.ID, port, errors.Join(errs...))
}

// Close ends the DHCP service and releases what this process holds. The pod's network stays as it is, and Open can serve
// it again. Closing twice is no error.
func (n *Network) Close() error {
	n.m.unregister(n)
	n.mu.Lock()
	servers := n.servers
	n.servers = nil
	n.mu.Unlock()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (m *Manager) register(n *Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open[n.record.Pod.ID] = n
}

func (m *Manager) unregister(n *Network) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[n.record.Pod.ID] == n {
		delete(m.open, n.record.Pod.ID)
	}
}

func (m *Manager) opened(id string) *Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open[id]
}
