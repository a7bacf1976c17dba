package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qemulet/qemulet/internal/config"
)

// savedSettings is a file in the state directory: the cluster's objects that were
// good last.
type savedSettings struct {
	Node    string          `json:"node"`
	Objects []config.Object `json:"objects"`
}

func savedPath(cfg *config.Config) string {
	return filepath.Join(cfg.StateDir, "cluster-settings.json")
}

// readSaved returns nil when there are none, or those of a node of another name.
func readSaved(cfg *config.Config) ([]config.Object, error) {
	raw, err := os.ReadFile(savedPath(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s savedSettings
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", savedPath(cfg), err)
	}
	if s.Node != cfg.NodeName {
		return nil, nil
	}
	return s.Objects, nil
}

// save writes them if that changes anything.
func save(cfg *config.Config, objects []config.Object) error {
	raw, err := json.MarshalIndent(savedSettings{Node: cfg.NodeName, Objects: objects}, "", "  ")
	if err != nil {
		return err
	}
	path := savedPath(cfg)
	if before, err := os.ReadFile(path); err == nil && bytes.Equal(before, raw) {
		return nil
	}
	// By rename: half a file would be no last good one.
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
