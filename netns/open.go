package netns

import (
	"context"
	"fmt"
	"os"

	"github.com/qemulet/qemulet/netns/dhcp"
)

// Open serves a pod's network again after a restart of this process; a guest that runs notices nothing. A network that
// is open in this Manager already is returned as it is. The error matches ErrGone when the namespace, or a tap in it,
// does not exist any more.
func (m *Manager) Open(ctx context.Context, r Record) (*Network, error) {
	unlock, err := m.locks.lock(ctx, r.Pod.ID)
	if err != nil {
		return nil, fmt.Errorf("netns: pod %s: %w", r.Pod.ID, err)
	}
	defer unlock()
	if n := m.opened(r.Pod.ID); n != nil {
		return n, nil
	}
	ns, err := openNamespace(r.NetnsPath)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	sockets, err := reopenSockets(ns, r)
	if err != nil {
		return nil, err
	}
	n := newNetwork(m, r, sockets)
	m.register(n)
	return n, nil
}

// reopenSockets opens the DHCP socket of each interface.
func reopenSockets(ns *os.File, r Record) (sockets []dhcp.Conn, err error) {
	err = within(ns, func() error {
		l, err := openLinks()
		if err != nil {
			return err
		}
		defer l.Close()
		for _, nic := range r.Interfaces {
			tap, err := l.LinkByName(nic.Tap)
			if isNotFound(err) {
				return fmt.Errorf("netns: tap %s in %s: %w", nic.Tap, r.NetnsPath, ErrGone)
			}
			if err != nil {
				return fmt.Errorf("netns: find tap %s in %s: %w", nic.Tap, r.NetnsPath, err)
			}
			socket, err := listenDHCP(nic, tap.Attrs().Index)
			if err != nil {
				return err
			}
			sockets = append(sockets, socket)
		}
		return nil
	})
	if err != nil {
		closeConns(sockets)
		return nil, err
	}
	return sockets, nil
}
