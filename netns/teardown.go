package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// Teardown takes a pod's network away: DHCP service, CNI DEL of every plugin, the namespace with taps and bridges. It needs the
// pod's ID and NetnsName only; an empty ID is looked up by the name. It is idempotent, and works with what is left:
// without namespace (after a reboot), without a cached result, after an ADD that was never finished.
//
// When a plugin fails, the namespace stays for the next attempt, since the plugin may need it, and the error, a
// *PluginError, says so.
func (m *Manager) Teardown(ctx context.Context, p Pod) error {
	p, err := m.identify(p)
	if err != nil {
		return err
	}
	unlock, err := m.locks.lock(ctx, p.ID)
	if err != nil {
		return fmt.Errorf("netns: pod %s: %w", p.ID, err)
	}
	defer unlock()
	if p.ID != "" && m.opened(p.ID) == nil {
		killLeftovers(p.ID)
	}
	closed := m.closeOpened(p.ID)
	if p.ID != "" {
		if err := m.detachKnown(ctx, p); err != nil {
			return errors.Join(err, <-closed)
		}
	}
	if err := <-closed; err != nil {
		return fmt.Errorf("netns: pod %s: end DHCP: %w", p.ID, err)
	}
	if p.NetnsName != "" {
		if err := removeNamespace(m.netnsPath(p)); err != nil {
			return err
		}
	}
	return m.forget(p)
}

// closeOpened ends a pod's DHCP service while the plugins work: the kernel closes a packet socket only after a grace
// period of tens of milliseconds.
func (m *Manager) closeOpened(id string) <-chan error {
	closed := make(chan error, 1)
	n := m.opened(id)
	if n == nil {
		closed <- nil
		return closed
	}
	go func() { closed <- n.Close() }()
	return closed
}

// identify completes a pod from the journal.
func (m *Manager) identify(p Pod) (Pod, error) {
	if p.ID == "" && p.NetnsName == "" {
		return p, errNoPod
	}
	if p.NetnsName != "" {
		if err := validateNetnsName(p.NetnsName); err != nil {
			return p, err
		}
	}
	if p.ID != "" {
		if err := validateID(p.ID); err != nil {
			return p, err
		}
	}
	if p.ID == "" {
		pods, err := m.Attachments()
		if err != nil {
			return p, err
		}
		if i := slices.IndexFunc(pods, func(known Pod) bool { return known.NetnsName == p.NetnsName }); i >= 0 {
			return pods[i], nil
		}
		return p, nil
	}
	if a, ok := m.readJournal(p.ID); ok && p.NetnsName == "" {
		p.NetnsName = a.Pod.NetnsName
	}
	return p, nil
}

// detachKnown runs DEL with the best that is known: what the journal says, else the directory's present configuration.
func (m *Manager) detachKnown(ctx context.Context, p Pod) error {
	path := ""
	if p.NetnsName != "" {
		path = m.netnsPath(p)
	}
	if a, ok := m.readJournal(p.ID); ok {
		list, err := a.Network.load()
		if err != nil {
			return err
		}
		return m.giveBack(ctx, list, a, path)
	}
	list, _, err := loadConfig(m.o.ConfDir)
	if errors.Is(err, ErrNoConfig) {
		return nil // no journal, no network: nothing was ever attached
	}
	if err != nil {
		return err
	}
	err = m.giveBack(ctx, list, attachment{Pod: p}, path)
	if err != nil && !m.hasTraces(list.Name, p, path) {
		return nil // it was asked to undo what most likely never was
	}
	return err
}

// giveBack restores the links of the plugins and runs DEL. A plugin's failure counts more than one to restore, which is
// reported only along with it; but without a VF that is given back DEL would be in vain, and nobody would look for the VF
// afterwards.
func (m *Manager) giveBack(ctx context.Context, list *libcni.NetworkConfigList, a attachment, path string) error {
	ns, err := openNamespace(path)
	switch {
	case errors.Is(err, ErrGone):
		ns, path = nil, "" // as the specification has it: DEL without CNI_NETNS
	case err != nil:
		return err
	case isOwn(ns):
		_ = ns.Close()
		ns, path = nil, "" // somebody has mounted the node's over the pod's
	default:
		defer func() { _ = ns.Close() }()
	}
	if err := m.returnVFs(ctx, ns, a); err != nil {
		return err
	}
	var unrestored error
	if ns != nil {
		unrestored = restore(ns, a.links)
	}
	if failed := m.detach(ctx, list, a.Pod, path); failed != nil {
		return errors.Join(failed, unrestored)
	}
	return nil
}

// hasTraces reports whether anything but the request says that the pod was attached.
func (m *Manager) hasTraces(network string, p Pod, path string) bool {
	for _, trace := range []string{path, m.resultPath(network, p.ID)} {
		if trace == "" {
			continue
		}
		if _, err := os.Lstat(trace); err == nil {
			return true
		}
	}
	return false
}

// forget removes the journal's entry and results of the pod that libcni has left, all of one network or another.
func (m *Manager) forget(p Pod) error {
	if p.ID == "" {
		return nil
	}
	results := m.resultsDir()
	entries, _ := os.ReadDir(results)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), resultName("", p.ID)) {
			continue
		}
		if err := os.Remove(filepath.Join(results, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("netns: cached result: %w", err)
		}
	}
	return m.removeJournal(p.ID)
}

// Stray returns the names of pinned namespaces that begin with [Prefix] and that known does not know. They are to be
// passed to Teardown as Pod.NetnsName.
func (m *Manager) Stray(_ context.Context, known func(netnsName string) bool) ([]string, error) {
	entries, err := os.ReadDir(m.o.NetnsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("netns: %w", err)
	}
	var stray []string
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, Prefix) && !known(name) {
			stray = append(stray, name)
		}
	}
	return stray, nil
}
