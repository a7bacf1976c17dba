package netns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/vishvananda/netlink"
)

// Check verifies that a pod's network is as Setup left it: namespace and links, and what the plugins vouch for (CNI
// CHECK). The error matches ErrGone when the namespace or a link of it is gone, or is a *PluginError.
//
// The plugin that made the link is not asked, because it would look for the address and the MAC address that are the
// guest's now; the address management behind it and the plugins chained to it are.
func (m *Manager) Check(ctx context.Context, r Record) error {
	unlock, err := m.locks.lock(ctx, r.Pod.ID)
	if err != nil {
		return fmt.Errorf("netns: pod %s: %w", r.Pod.ID, err)
	}
	defer unlock()
	if err := errors.Join(m.checkVFs(r), checkLinks(r)); err != nil {
		return err
	}
	a, ok := m.readJournal(r.Pod.ID)
	if !ok {
		return fmt.Errorf("netns: pod %s: its journal entry %s is missing or damaged", r.Pod.ID, m.journalPath(r.Pod.ID))
	}
	list, err := a.Network.load()
	if err != nil {
		return err
	}
	return m.checkPluginsOf(ctx, list, a, r)
}

func (m *Manager) checkPluginsOf(ctx context.Context, list *libcni.NetworkConfigList, a attachment, r Record) error {
	exec := m.newExec()
	exec.replace = m.delegateFirst(list)
	err := m.cni(exec).CheckNetworkList(ctx, list, runtimeConf(a.Pod, r.NetnsPath))
	if err == nil || errors.Is(err, libcni.ErrorCheckNotSupp) {
		return nil
	}
	return pluginFailure(list.Name, err)
}

// delegateFirst puts a network's address management in the place of its first plugin.
func (m *Manager) delegateFirst(list *libcni.NetworkConfigList) func(string, []byte) (string, bool) {
	first := true
	return func(path string, stdin []byte) (string, bool) {
		if !first {
			return path, true
		}
		first = false
		var conf struct {
			IPAM struct {
				Type string `json:"type"`
			} `json:"ipam"`
		}
		if json.Unmarshal(stdin, &conf) != nil || conf.IPAM.Type == "" {
			return "", false
		}
		ipam, err := (&pluginExec{}).FindInPath(conf.IPAM.Type, m.o.BinDirs)
		if err != nil {
			return filepath.Join(m.o.BinDirs[0], conf.IPAM.Type), true // running it will fail, and say why
		}
		return ipam, true
	}
}

// checkLinks verifies links and how they hang together.
func checkLinks(r Record) error {
	ns, err := openNamespace(r.NetnsPath)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	l, err := linksIn(ns)
	if err != nil {
		return err
	}
	defer l.Close()
	for _, nic := range r.Interfaces {
		if nic.VF != nil {
			continue
		}
		if err := l.checkNIC(nic); err != nil {
			return fmt.Errorf("netns: interface %s in %s: %w", nic.Name, r.NetnsPath, err)
		}
	}
	return nil
}

func (l *links) checkNIC(nic Interface) error {
	link, err := l.existing(nic.Name)
	if err != nil {
		return err
	}
	tap, err := l.existing(nic.Tap)
	if err != nil {
		return err
	}
	errs := []error{l.checkFilter(tap, dropPriority)}
	switch nic.Plumbing {
	case PlumbingRedirect:
		errs = append(errs, l.checkFilter(link, dropPriority), l.checkFilter(link, redirectPriority), l.checkFilter(tap, redirectPriority))
	case PlumbingBridge:
		errs = append(errs, l.checkFilter(link, dropPriority), l.checkPorts(nic.Bridge, link, tap))
	}
	return errors.Join(errs...)
}

func (l *links) checkFilter(link netlink.Link, priority uint16) error {
	there, err := l.hasFilter(link, priority)
	if err == nil && !there {
		err = fmt.Errorf("link %s has lost its traffic-control filter with preference %d", link.Attrs().Name, priority)
	}
	return err
}

func (l *links) checkPorts(name string, ports ...netlink.Link) error {
	bridge, err := l.existing(name)
	if err != nil {
		return err
	}
	for _, port := range ports {
		if port.Attrs().MasterIndex != bridge.Attrs().Index {
			return fmt.Errorf("link %s is not a port of %s", port.Attrs().Name, name)
		}
	}
	return nil
}

// existing returns a link that is up.
func (l *links) existing(name string) (netlink.Link, error) {
	link, err := l.find(name)
	if err == nil && link.Attrs().Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("link %s is down", name)
	}
	return link, err
}

// find returns a link; the error matches ErrGone when there is none.
func (l *links) find(name string) (netlink.Link, error) {
	link, err := l.LinkByName(name)
	if isNotFound(err) {
		return nil, fmt.Errorf("link %s: %w", name, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return link, nil
}
