package images

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/containerd/errdefs"
)

// Remove removes all names of an image, which may be given in any form that Get
// takes. Its data goes too, unless a VM uses it: then it is hidden at once, and
// freed by the GC that finds it unused. An image that is not there is no error.
func (s *Store) Remove(ctx context.Context, refOrID string) error {
	if err := s.unlink(refOrID); err != nil {
		if errdefs.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("remove image %q: %w", refOrID, err)
	}
	return s.GC(ctx)
}

// unlink removes the links before the data, so that a crash in between leaves
// data that GC finds.
func (s *Store) unlink(refOrID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(refOrID)
	if err != nil {
		return err
	}
	for _, file := range s.ix.linksOf(img.Digest) {
		if err := removeIfExists(filepath.Join(s.linksDir, file)); err != nil {
			return err
		}
		s.ix.forgetLink(file)
		s.step("link removed")
	}
	return syncDir(s.linksDir)
}

// GC deletes the data that has no name and that no VM uses. Running downloads
// are not touched, nor is any file that the store did not make. It is called
// by Pull and Remove themselves; others call it when a VM has been removed.
// It does nothing before SetInUse.
func (s *Store) GC(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		used, before := s.used()
		if used == nil {
			return nil
		}
		done, err := s.collect(used, before)
		if done || err != nil {
			return err
		}
	}
}

// used asks for the images in use, and returns the count of releases before the
// question: what was released since may be in use and missing in the answer.
// The map is nil when nobody knows.
func (s *Store) used() (map[string]bool, uint64) {
	s.mu.Lock()
	inUse, before := s.inUse, s.releases
	s.mu.Unlock()
	if inUse == nil {
		return nil, before
	}
	used := map[string]bool{}
	maps.Copy(used, inUse())
	return used, before
}

func (s *Store) collect(used map[string]bool, before uint64) (done bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.releases != before {
		return false, nil
	}
	ix, err := s.index()
	if err != nil {
		return false, err
	}
	var errs []error
	for _, file := range ix.outdated() {
		errs = append(errs, removeIfExists(filepath.Join(s.linksDir, file)))
		ix.forgetLink(file)
	}
	for _, hex := range ix.garbage() {
		if used[hex] || s.held[hex] > 0 {
			continue
		}
		s.step("before data removed")
		errs = append(errs, removeIfExists(filepath.Join(s.dataDir, hex)))
		delete(s.checked, hex)
		ix.forgetData(hex)
		s.step("data removed")
	}
	if err := errors.Join(errs...); err != nil {
		return true, fmt.Errorf("image store: %w", err)
	}
	return true, nil
}

// outdated returns the links that a newer spelling of their name replaces. A
// crash in commit leaves them.
func (ix *index) outdated() []string {
	current := ix.current()
	var files []string
	for file, l := range ix.links {
		if newest, ok := current[l.key]; ok && newest.file != file {
			files = append(files, file)
		}
	}
	return files
}

// garbage returns the digests of data without a link.
func (ix *index) garbage() []string {
	linked := map[string]bool{}
	for _, l := range ix.links {
		linked[l.hex] = true
	}
	var out []string
	for hex := range ix.data {
		if !linked[hex] {
			out = append(out, hex)
		}
	}
	return out
}
