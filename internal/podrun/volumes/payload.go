package volumes

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

const (
	dataLink = "..data"
	// dataName is the time in a data directory's name, as kubelet writes it.
	dataName = "..2006_01_02_15_04_05."
)

// writePayload writes a volume's files in kubelet's layout: the files in a
// directory of their own, a link ..data to it, and for each name in the volume's
// top a link through that one, so that all files could be exchanged at once.
func writePayload(dir string, all map[string]file) error {
	if err := conflict(all); err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	data, err := os.MkdirTemp(dir, time.Now().UTC().Format(dataName))
	if err != nil {
		return err
	}
	if err := os.Chmod(data, 0o755); err != nil {
		return err
	}
	tops := map[string]bool{}
	for name, f := range all {
		if err := writeFile(filepath.Join(data, filepath.FromSlash(name)), f); err != nil {
			return err
		}
		top, _, _ := strings.Cut(name, "/")
		tops[top] = true
	}
	if err := os.Symlink(filepath.Base(data), filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	for top := range tops {
		err = errors.Join(err, os.Symlink(path.Join(dataLink, top), filepath.Join(dir, top)))
	}
	return err
}

func writeFile(name string, f file) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, f.data, 0o600); err != nil {
		return err
	}
	return os.Chmod(name, f.mode)
}
