package images

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// commit makes a complete, synced part file the image of the name. A crash at
// any point leaves the name with its old image, or with the new one:
//
//  1. the part file is renamed to data/<digest>, and the directory is synced
//  2. the link is made beside it and renamed over the old one, and synced
//  3. other spellings of the same name are removed
//  4. data that has lost its last name is removed, unless a VM uses it
//
// The part must not be used afterwards.
func (s *Store) commit(ctx context.Context, n Name, p *part, c checked) (Image, error) {
	hex := p.digest()
	s.mu.Lock()
	err := s.commitData(hex, p, c)
	if err == nil {
		err = s.commitLink(n, hex)
	}
	s.mu.Unlock()
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", n, err)
	}
	return s.committed(ctx, n, hex)
}

// link gives a name to data that is in the store already. ok is false when it
// is not, or is damaged.
func (s *Store) link(ctx context.Context, n Name, hex string) (_ Image, ok bool, _ error) {
	s.mu.Lock()
	ix, err := s.index()
	if err != nil || ix.data[hex].size == 0 {
		s.mu.Unlock()
		return Image{}, false, err
	}
	s.held[hex]++
	s.mu.Unlock()
	defer s.release(hex)
	if img := s.withCheck(Image{Digest: hex, Path: filepath.Join(s.dataDir, hex)}); img.Damaged != nil {
		return Image{}, false, nil
	}
	s.mu.Lock()
	err = s.commitLink(n, hex)
	s.mu.Unlock()
	if err != nil {
		return Image{}, false, fmt.Errorf("image %s: %w", n, err)
	}
	img, err := s.committed(ctx, n, hex)
	return img, err == nil, err
}

// committed drops data that has just lost its name, and returns the image.
func (s *Store) committed(ctx context.Context, n Name, hex string) (Image, error) {
	if err := s.GC(ctx); err != nil {
		s.opts.Warn(err)
	}
	return s.Get(ctx, digestPrefix+hex)
}

// commitData needs s.mu.
func (s *Store) commitData(hex string, p *part, c checked) error {
	path := filepath.Join(s.dataDir, hex)
	s.step("before data")
	if s.present(hex, p.size()) {
		s.checked[hex] = c
		return p.discard()
	}
	if err := p.rename(path); err != nil {
		return err
	}
	s.checked[hex] = c
	s.step("data renamed")
	return syncDir(s.dataDir)
}

// present tells whether the data is there already. A file of another length, or
// one that was found damaged, was left by a crash of something that did not
// sync, and is replaced.
func (s *Store) present(hex string, size int64) bool {
	fi, err := os.Stat(filepath.Join(s.dataDir, hex))
	return err == nil && fi.Size() == size && s.checked[hex].err == nil
}

// commitLink needs s.mu.
func (s *Store) commitLink(n Name, hex string) error {
	file := n.linkName()
	path := filepath.Join(s.linksDir, file)
	s.step("before link")
	if err := s.replaceLink(path, hex); err != nil {
		return err
	}
	s.step("link renamed")
	ix, err := s.index()
	if err != nil {
		return err
	}
	for _, alias := range ix.aliases(n) {
		if err := removeIfExists(filepath.Join(s.linksDir, alias)); err != nil {
			return err
		}
		ix.forgetLink(alias)
		s.step("alias removed")
	}
	return syncDir(s.linksDir)
}

// replaceLink makes the link in data, where leftovers are cleaned up, and
// renames it into its place.
func (s *Store) replaceLink(path, hex string) error {
	temp := filepath.Join(s.dataDir, partPrefix+"link_"+rand.Text())
	if err := os.Symlink(filepath.Join("..", dataName, hex), temp); err != nil {
		return err
	}
	s.step("link made")
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// syncDir makes the directory's entries durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func removeIfExists(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
