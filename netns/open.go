package netns

import (
	"context"
	"fmt"
	"os"

	"github.com/qemulet/qemulet/netns/dhcp"
)

// Open serves a pod's network again after a restart of this process; a guest that runs notices nothing. A network that
// is open in this Manager already is returned as it is. The error matches ErrGone when the namespace, or a tap in it,
// does not exist any more, or a VF is not the guest's any more.
func (m *Manager) Open(ctx context.Context, r Record) (*Network, error) {
	unlock, err := m.locks.lock(ctx, r.Pod.ID)
	if err != nil {
		return nil, fmt.Errorf("netns: pod %s: %w", r.Pod.ID, err)
	}
	defer unlock()
	if n := m.opened(r.Pod.ID); n != nil {
		return n, nil
	}
	if err := m.checkVFs(r); err != nil {
		return nil, err
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
func reopenSockets(ns *os.File, r Record) (sockets []dhcp.Link, err error) {
	err = within(ns, func() error {
		l, err := openLinks()
		if err != nil {
			return err
		}
		defer l.Close()
		for _, nic := range r.Interfaces {
			if nic.VF != nil {
				sockets = append(sockets, dhcp.Link{})
				continue
			}
			socket, err := l.reopenSocket(nic)
			if err != nil {
				err = fmt.Errorf("netns: interface %s in %s: %w", nic.Name, r.NetnsPath, err)
				return err
			}
			sockets = append(sockets, socket)
		}
		return nil
	})
	if err != nil {
		closeDHCP(sockets)
		return nil, err
	}
	return sockets, nil
}

func (l *links) reopenSocket(nic Interface) (dhcp.Link, error) {
	tap, err := l.find(nic.Tap)
	if err != nil {
		return dhcp.Link{}, err
	}
	link, err := l.find(nic.Name)
	if err != nil {
		return dhcp.Link{}, err
	}
	return listenDHCP(nic, tap.Attrs().Index, link.Attrs().Index)
}
