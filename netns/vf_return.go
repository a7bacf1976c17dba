package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// returnVFs gives VFs back to their own drivers, and their links, by their old names, to the pod's namespace, where the
// plugins look for them. ns is nil when that is gone; then the links stay with the node. The journal forgets what is done: by
// the time of another attempt the plugins may have given the VF to another pod.
func (m *Manager) returnVFs(ctx context.Context, ns *os.File, a attachment) error {
	var errs []error
	returned := false
	for i, s := range a.links {
		if s.VF == nil {
			continue
		}
		if err := m.returnVF(ctx, ns, s); err != nil {
			errs = append(errs, fmt.Errorf("netns: give back interface %s, PCI device %s: %w", s.Name, s.VF.PCI, err))
			continue
		}
		a.links[i].VF, returned = nil, true
	}
	if returned {
		errs = append(errs, m.writeLinks(a))
	}
	return errors.Join(errs...)
}

// returnVF goes by what it finds: takeVF may have been cut off anywhere, and so may an earlier attempt.
func (m *Manager) returnVF(ctx context.Context, ns *os.File, s savedLink) error {
	if !m.sys.exists(s.VF.PCI) {
		return nil // the card is gone, or has been told to have fewer functions
	}
	if err := m.sys.override(s.VF.PCI, ""); err != nil {
		return err
	}
	driver, err := m.sys.driver(s.VF.PCI)
	if err != nil {
		return err
	}
	rebind := driver != s.VF.Driver
	if rebind {
		if err := m.rebindVF(s.VF); err != nil {
			return err
		}
	}
	if ns == nil {
		return nil
	}
	return m.returnLink(ctx, ns, s, rebind)
}

// rebindVF sets the PF's part first: a VF's driver reads it when it begins.
func (m *Manager) rebindVF(vf *savedVF) error {
	if err := m.sys.unbind(vf.PCI); err != nil {
		return err
	}
	state := m.setVFState(vf.PCI, vf.State)
	if err := m.sys.bind(vf.PCI, vf.Driver); err != nil {
		return errors.Join(err, state)
	}
	return state
}

// linkTime is what a driver may take to make the link after it was bound: some do so when the card has answered.
const linkTime = 10 * time.Second

var errNoLink = errors.New("its driver has made no link")

// returnLink puts the VF's link back to where the plugins had put it. Unless the driver was bound just now, a link that is
// nowhere to be found has been taken by a plugin.
func (m *Manager) returnLink(ctx context.Context, ns *os.File, s savedLink, wait bool) error {
	there, err := hasLink(ns, s.Name)
	if there || err != nil {
		return err
	}
	index := m.sys.linkIndex(s.VF.PCI)
	if index == 0 && !wait {
		return nil
	}
	if index == 0 {
		ctx, cancel := context.WithTimeoutCause(ctx, linkTime, errNoLink)
		defer cancel()
		if index, err = m.awaitLink(ctx, s.VF.PCI); err != nil {
			return err
		}
	}
	l, err := openLinks()
	if err != nil {
		return err
	}
	defer l.Close()
	return l.moveTo(index, ns, s.Name)
}

func hasLink(ns *os.File, name string) (bool, error) {
	l, err := linksIn(ns)
	if err != nil {
		return false, err
	}
	defer l.Close()
	_, err = l.find(name)
	if errors.Is(err, ErrGone) {
		return false, nil
	}
	return err == nil, err
}

// awaitLink waits for a device to get a link in this process's network namespace.
func (m *Manager) awaitLink(ctx context.Context, pci string) (int, error) {
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return 0, fmt.Errorf("watch links: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // until the subscription has ended
		}
	}()
	for {
		if index := m.sys.linkIndex(pci); index > 0 {
			return index, nil
		}
		select {
		case _, open := <-updates:
			if !open {
				return 0, errors.New("watch links: the subscription ended")
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// moveTo moves a link to a namespace and names it there, in one request: the name may be another link's here.
func (l *links) moveTo(index int, ns *os.File, name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.Sockets = l.raw
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("move link %d to %s as %s: %w", index, ns.Name(), name, err)
	}
	return nil
}
