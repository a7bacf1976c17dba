package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// Watch calls gone with the name of each namespace that is unpinned, by whomever, until ctx ends. What is gone before Watch
// is called is for Open to find.
func (m *Manager) Watch(ctx context.Context, gone func(netnsName string)) error {
	if err := os.MkdirAll(m.o.NetnsDir, 0o755); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("netns: watch %s: %w", m.o.NetnsDir, err)
	}
	defer func() { _ = w.Close() }()
	if err := w.Add(m.o.NetnsDir); err != nil {
		return fmt.Errorf("netns: watch %s: %w", m.o.NetnsDir, err)
	}
	for {
		select {
		case e := <-w.Events:
			if name := filepath.Base(e.Name); e.Has(fsnotify.Remove) && strings.HasPrefix(name, Prefix) {
				gone(name)
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("netns: watch %s: %w", m.o.NetnsDir, err)
			}
			m.missing(gone)
		case <-ctx.Done():
			return nil
		}
	}
}

// missing finds what events did not tell.
func (m *Manager) missing(gone func(string)) {
	m.mu.Lock()
	var names []string
	for _, n := range m.open {
		names = append(names, n.record.Pod.NetnsName)
	}
	m.mu.Unlock()
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(m.o.NetnsDir, name)); errors.Is(err, os.ErrNotExist) {
			gone(name)
		}
	}
}
