package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/qemulet/qemulet/internal/config"
)

// markerFile in the state directory says that a daemon was started by
// `qemulet run`, and with which settings: one for as long as there are pods.
// Who uses that daemon holds a shared lock on the file; who gets an exclusive
// one may end it. When the daemon was killed, the file is how it is started again.
const markerFile = "run-daemon"

// marker is the file, open and locked.
type marker struct{ file *os.File }

// mark writes the marker, or takes the one that is there.
func mark(cfg *config.Config) (*marker, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o711); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	path := filepath.Join(cfg.StateDir, markerFile)
	m, err := lockMarker(path, os.O_CREATE|os.O_RDWR, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, v := range cfg.Values() {
		settings[v.Name] = v.Value
	}
	raw, err := yaml.Marshal(settings)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, m.release())
	}
	return m, nil
}

// findMarker takes the marker of a state directory; nil when there is none.
func findMarker(stateDir string) (*marker, error) {
	m, err := lockMarker(filepath.Join(stateDir, markerFile), os.O_RDONLY, unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return m, err
}

// lockMarker opens and locks the file, again when it was removed in between.
func lockMarker(path string, flags, how int) (*marker, error) {
	for {
		f, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), how); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if isStill(f, path) {
			return &marker{file: f}, nil
		}
		_ = f.Close()
	}
}

func isStill(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(mine, there)
}

// settings are the daemon's, by name.
func (m *marker) settings() (map[string]string, error) {
	raw, err := os.ReadFile(m.file.Name())
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	if err := yaml.Unmarshal(raw, &settings); err != nil {
		return nil, fmt.Errorf("%s: %w", m.file.Name(), err)
	}
	return settings, nil
}

// alone tells whether nobody else uses the daemon, and keeps it so.
func (m *marker) alone() bool {
	return unix.Flock(int(m.file.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// remove removes the marker; only who is alone may.
func (m *marker) remove() error {
	return errors.Join(os.Remove(m.file.Name()), m.file.Close())
}

// release leaves the marker to others.
func (m *marker) release() error {
	if m == nil {
		return nil
	}
	return m.file.Close()
}
