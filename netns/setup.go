package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/qemulet/qemulet/netns/dhcp"
)

// Setup gives a pod its network: a namespace, the CNI network attached to it, a tap and DHCP for each interface.
// When it returns, taps can be opened and the guest's requests are answered.
//
// On an error everything is undone, with a time limit of its own when ctx has ended; if that fails too, the error matches
// ErrUndo and Teardown finishes the work. A plugin's failure is a *PluginError. A namespace of that name that exists
// already is an error matching fs.ErrExist: Teardown comes first.
func (m *Manager) Setup(ctx context.Context, p Pod) (_ *Network, err error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	unlock, err := m.locks.lock(ctx, p.ID)
	if err != nil {
		return nil, fmt.Errorf("netns: pod %s: %w", p.ID, err)
	}
	defer unlock()

	list, _, err := loadConfig(m.o.ConfDir)
	if err != nil {
		return nil, err
	}
	if err := m.checkPlugins(list); err != nil {
		return nil, err
	}
	if err := p.checkDemands(list); err != nil {
		return nil, err
	}
	s := &setup{m: m, list: list, path: m.netnsPath(p), journal: attachment{Pod: p, Network: saveConfig(list)}}
	network, err := s.run(ctx)
	if err != nil {
		return nil, s.takeBack(ctx, err)
	}
	m.register(network)
	return network, nil
}

func (m *Manager) netnsPath(p Pod) string { return filepath.Join(m.o.NetnsDir, p.NetnsName) }

// setup is one run of Setup.
type setup struct {
	m       *Manager
	list    *libcni.NetworkConfigList
	path    string
	journal attachment
	undo    undoStack

	detachFailed bool

	ns    *os.File
	links *links
}

func (s *setup) run(ctx context.Context) (*Network, error) {
	defer s.release()
	if err := s.makeNamespace(); err != nil {
		return nil, err
	}
	result, err := s.attach(ctx)
	if err != nil {
		return nil, err
	}
	nics, err := s.plan(result)
	if err != nil {
		return nil, err
	}
	sockets, err := s.plumb(nics)
	if err != nil {
		return nil, err
	}
	return newNetwork(s.m, s.record(result, nics), sockets), nil
}

// release closes what only the set-up itself needs.
func (s *setup) release() {
	if s.links != nil {
		s.links.Close()
	}
	if s.ns != nil {
		_ = s.ns.Close()
	}
}

func (s *setup) takeBack(ctx context.Context, cause error) error {
	ctx, cancel := s.m.cleanupContext(ctx)
	defer cancel()
	if err := s.undo.run(ctx); err != nil {
		return fmt.Errorf("%w; %w: %w", cause, ErrUndo, err)
	}
	return cause
}

// cleanupContext outlives the request, so that what was begun for it is undone also when it was cancelled.
func (m *Manager) cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupPlugins*m.o.PluginTimeout)
}

// cleanupPlugins is how many plugins may use up their time before a clean-up is given up.
const cleanupPlugins = 4

// makeNamespace writes the journal first: whoever finds a namespace that is ours also finds how to undo it. While the disk takes its
// time the namespace is made, which a power failure takes along.
func (s *setup) makeNamespace() error {
	if err := s.checkUnused(); err != nil {
		return err
	}
	durable, err := s.m.writeJournal(s.journal)
	if err != nil {
		return err
	}
	s.undo.add(s.removeJournal)
	err = createNamespace(s.path, func() (err error) {
		if s.links, err = openLinks(); err != nil {
			return err
		}
		return s.links.loopbackUp()
	})
	if err != nil {
		return errors.Join(err, <-durable)
	}
	s.undo.add(func(context.Context) error { return removeNamespace(s.path) })
	if s.ns, err = openNamespace(s.path); err != nil {
		return errors.Join(err, <-durable)
	}
	return <-durable
}

func (s *setup) checkUnused() error {
	for _, path := range []string{s.path, s.m.journalPath(s.journal.Pod.ID)} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("netns: pod %s has a network already: %s: %w", s.journal.Pod.ID, path, fs.ErrExist)
		}
	}
	return nil
}

// removeJournal keeps the entry if the plugins could not undo their work: Teardown tries again.
func (s *setup) removeJournal(context.Context) error {
	if s.detachFailed {
		return nil
	}
	return s.m.removeJournal(s.journal.Pod.ID)
}

func (s *setup) attach(ctx context.Context) (*types100.Result, error) {
	s.undo.add(s.detach) // before ADD: a plugin that fails half way, or is killed, needs DEL as well
	result, err := s.m.attach(ctx, s.list, s.journal.Pod, s.path)
	if vanished := s.checkPinned(); vanished != nil {
		return nil, errors.Join(vanished, err)
	}
	return result, err
}

func (s *setup) detach(ctx context.Context) error {
	err := s.m.giveBack(ctx, s.list, s.journal, s.path)
	s.detachFailed = err != nil
	return err
}

// checkPinned makes sure that the plugins have left the namespace where it was.
func (s *setup) checkPinned() error {
	now, err := openNamespace(s.path)
	if err == nil {
		defer func() { _ = now.Close() }()
		var made, found os.FileInfo
		made, err = s.ns.Stat()
		if err == nil {
			found, err = now.Stat()
		}
		if err == nil && !os.SameFile(made, found) {
			err = fmt.Errorf("netns: %s is another namespace: %w", s.path, ErrGone)
		}
	}
	if err != nil {
		return fmt.Errorf("%w after the plugins of network %q (%s) ran", err, s.list.Name, pluginNames(s.list))
	}
	return nil
}

func pluginNames(list *libcni.NetworkConfigList) string {
	var names []string
	for _, p := range list.Plugins {
		names = append(names, p.Network.Type)
	}
	return strings.Join(names, ", ")
}

func (s *setup) plan(result *types100.Result) ([]*plannedNIC, error) {
	observed, err := s.links.observe()
	if err != nil {
		return nil, err
	}
	nics, err := plan(result, observed, s.journal.Pod.queues())
	if err != nil {
		return nil, fmt.Errorf("network %q (%s): %w", s.list.Name, pluginNames(s.list), err)
	}
	if err := s.journal.Pod.checkGranted(s.list, result, nics); err != nil {
		return nil, err
	}
	s.journal.Pod.keepMACs(nics)
	return nics, s.m.findVFs(result, nics)
}

func (s *setup) plumb(nics []*plannedNIC) (sockets []dhcp.Link, err error) {
	s.journal.links = save(nics)
	if err := s.m.writeLinks(s.journal); err != nil {
		return nil, err
	}
	if err := s.m.takeVFs(nics); err != nil {
		return nil, err
	}
	err = within(s.ns, func() error {
		sockets, err = s.links.plumb(nics, s.m.o.Plumbing)
		return err
	})
	return sockets, err
}

func (s *setup) record(result *types100.Result, nics []*plannedNIC) Record {
	r := Record{
		Pod:       s.journal.Pod,
		Network:   s.list.Name,
		NetnsPath: s.path,
		IPs:       podIPs(result),
		DNS:       s.journal.Pod.DNS,
		Unclaimed: s.journal.Pod.unclaimed(s.list),
	}
	if r.DNS.IsZero() {
		r.DNS = resultDNS(result)
	}
	for _, p := range nics {
		r.Interfaces = append(r.Interfaces, p.nic)
	}
	return r
}
