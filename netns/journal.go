package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// attachment is a journal entry: what has to be undone for a pod, written before it is done.
type attachment struct {
	Pod     Pod         `json:"pod"`
	Network savedConfig `json:"network"`
	// links are to be given back to the plugins as they made them. They are in a file of their own.
	links []savedLink
}

// savedLink is a link of the plugins before a guest was put in its place.
type savedLink struct {
	Name      string         `json:"name"`
	MAC       HardwareAddr   `json:"mac"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Peers     []netip.Prefix `json:"peers,omitempty"`
	Routes    []kernelRoute  `json:"routes,omitempty"`
	AllMulti  bool           `json:"allMulti,omitempty"`
	VF        *savedVF       `json:"vf,omitempty"` // until it is given back
}

const (
	journalSuffix = ".json"
	linksSuffix   = ".links"
)

func (m *Manager) journalDir() string { return filepath.Join(m.o.CacheDir, "attachments") }

func (m *Manager) journalPath(id string) string {
	return filepath.Join(m.journalDir(), id+journalSuffix)
}

func (m *Manager) linksPath(id string) string { return filepath.Join(m.journalDir(), id+linksSuffix) }

// writeJournal stores an entry, which a later process finds from then on. When the channel has told of no error it outlasts a power
// failure as well: before that no plugin must run, since what plugins keep on disk may outlast one too.
func (m *Manager) writeJournal(a attachment) (durable <-chan error, err error) {
	if err := os.MkdirAll(m.journalDir(), 0o700); err != nil {
		return nil, fmt.Errorf("netns: journal: %w", err)
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("netns: journal of pod %s: %w", a.Pod.ID, err)
	}
	file, err := writeFileAtomic(m.journalPath(a.Pod.ID), raw)
	if err != nil {
		return nil, fmt.Errorf("netns: journal of pod %s: %w", a.Pod.ID, err)
	}
	done := make(chan error, 1)
	go func() {
		err := unix.Fdatasync(int(file.Fd()))
		if err = errors.Join(err, file.Close()); err != nil {
			err = fmt.Errorf("netns: journal of pod %s: %w", a.Pod.ID, err)
		}
		done <- err
	}()
	return done, nil
}

// writeLinks notes links before they are changed. A power failure may lose the note: it takes the links, and
// the drivers of VFs, with it.
func (m *Manager) writeLinks(a attachment) error {
	raw, err := json.Marshal(a.links)
	if err == nil {
		err = os.WriteFile(m.linksPath(a.Pod.ID), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("netns: journal of pod %s: %w", a.Pod.ID, err)
	}
	return nil
}

// writeFileAtomic makes a file that nobody sees unfinished. The caller closes it.
func writeFileAtomic(path string, data []byte) (*os.File, error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return nil, err
	}
	_, err = file.Write(data)
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = file.Close()
		_ = os.Remove(file.Name())
		return nil, err
	}
	return file, nil
}

// readJournal returns a pod's entry; ok is false when there is none, or none that can be read.
func (m *Manager) readJournal(id string) (a attachment, ok bool) {
	raw, err := os.ReadFile(m.journalPath(id))
	if err != nil || json.Unmarshal(raw, &a) != nil || a.Pod.ID != id {
		return attachment{}, false
	}
	if raw, err = os.ReadFile(m.linksPath(id)); err == nil && json.Unmarshal(raw, &a.links) != nil {
		a.links = nil
	}
	return a, true
}

func (m *Manager) removeJournal(id string) error {
	for _, path := range []string{m.linksPath(id), m.journalPath(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("netns: journal: %w", err)
		}
	}
	return nil
}

// Attachments returns the pods whose attachment was begun and not undone completely, with or without a namespace. Those
// that the caller does not know are to be passed to [Manager.Teardown]. They survive a reboot, which their namespaces,
// and so [Manager.Stray], do not.
func (m *Manager) Attachments() ([]Pod, error) {
	entries, err := os.ReadDir(m.journalDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("netns: journal: %w", err)
	}
	var pods []Pod
	for _, e := range entries {
		id, isEntry := strings.CutSuffix(e.Name(), journalSuffix)
		if !isEntry || strings.HasPrefix(id, ".") {
			continue
		}
		a, ok := m.readJournal(id)
		if !ok {
			a.Pod = Pod{ID: id}
		}
		pods = append(pods, a.Pod)
	}
	return pods, nil
}
