package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// cacheFormat is part of every key: it changes when what is kept does.
const cacheFormat = 2

// fileIdentity tells whether a file is still the one that was looked at.
type fileIdentity struct {
	Format  int    `json:"format"`
	Path    string `json:"path"`
	Device  uint64 `json:"device"`
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	ModTime int64  `json:"modTime"` // ns
}

// identify tells who a file is now.
func identify(path string) (fileIdentity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileIdentity{}, fmt.Errorf("qemu: %w: %w", ErrBinary, err)
	}
	id := fileIdentity{Format: cacheFormat, Path: path, Size: info.Size(), ModTime: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.Device, id.Inode = uint64(st.Dev), st.Ino
	}
	return id, nil
}

// cached is what a cache file holds: an answer, and what it was the answer for.
type cached[T any] struct {
	Key   json.RawMessage `json:"key"`
	Value T               `json:"value"`
}

// cacheFile is where an answer about something of that name is kept; nowhere
// without a directory.
func cacheFile(dir, kind, name string) string {
	if dir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(dir, "qemu-"+kind+"-"+hex.EncodeToString(sum[:6])+".json")
}

// readCache reads an answer that was kept for this key. What is missing, damaged
// or of another key is not there.
func readCache[T any](path string, key any) (T, bool) {
	var c cached[T]
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &c) != nil || string(c.Key) != renderJSON(key) {
		var none T
		return none, false
	}
	return c.Value, true
}

// writeCache keeps an answer: at any instant the file holds a whole one.
func writeCache[T any](path string, key any, value T) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".qemu-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.WriteString(renderJSON(cached[T]{Key: json.RawMessage(renderJSON(key)), Value: value}))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
