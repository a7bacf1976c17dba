package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/qemulet/qemulet/internal/podrun/expansion"
)

// subPath is the part of the volume that a mount shows, "" for all of it.
func (p *Pod) subPath(m *corev1.VolumeMount) (string, error) {
	sub, field := m.SubPath, "subPath"
	if m.SubPathExpr != "" {
		field = "subPathExpr"
		var unknown []string
		sub, unknown = expansion.Expand(m.SubPathExpr, p.env)
		if len(unknown) > 0 {
			return "", fmt.Errorf("subPathExpr %q: there is no variable %s in env", m.SubPathExpr, strings.Join(unknown, ", "))
		}
	}
	if path.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("%s %q: accepted is a relative path without .. in it", field, sub)
	}
	return path.Clean("/" + sub)[1:], nil
}

// inVolume is what sub means in a volume, with all links followed. A directory
// that is not there is made, as kubelet does. What leads out of the volume is
// refused: who writes to a volume could otherwise have any file of the machine.
func inVolume(volume, sub string, ro bool) (string, error) {
	if sub == "" {
		return volume, nil
	}
	top, err := filepath.EvalSymlinks(volume)
	if err != nil {
		return "", err
	}
	whole := filepath.Join(top, sub)
	found, err := filepath.EvalSymlinks(whole)
	if errors.Is(err, fs.ErrNotExist) && !ro {
		found, err = makeInVolume(top, sub)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("subPath %q is not in the volume", sub)
	case err != nil:
		return "", fmt.Errorf("subPath %q: %w", sub, err)
	case found != top && !strings.HasPrefix(found, top+"/"):
		return "", fmt.Errorf("subPath %q leads out of the volume", sub)
	}
	return found, nil
}

// makeInVolume makes a directory without ever leaving the volume.
func makeInVolume(top, sub string) (string, error) {
	root, err := os.OpenRoot(top)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if err := root.MkdirAll(sub, 0o750); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(filepath.Join(top, sub))
}
