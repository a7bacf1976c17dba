package images

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

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
	_, err := s.Prune(ctx, PruneOptions{})
	return err
}

// PruneOptions say what Prune takes for garbage.
type PruneOptions struct {
	// Unused adds the images that have names, but no VM uses.
	Unused bool
	// DryRun only tells what would be deleted.
	DryRun bool
}

// Freed is data that was deleted.
type Freed struct {
	// Digest is the SHA-256 of the file in hex.
	Digest string
	// Names are those that the image had, sorted.
	Names []string
	// Bytes are the disk blocks that the file occupied.
	Bytes int64
}

// Prune is GC by choice. It returns what it has deleted, beside an error, too.
func (s *Store) Prune(ctx context.Context, o PruneOptions) ([]Freed, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		used, before := s.used()
		if used == nil {
			return nil, nil
		}
		freed, done, err := s.collect(used, before, o)
		if done || err != nil {
			return freed, err
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

func (s *Store) collect(used map[string]bool, before uint64, o PruneOptions) (_ []Freed, done bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.releases != before {
		return nil, false, nil
	}
	ix, err := s.index()
	if err != nil {
		return nil, false, err
	}
	outdated := ix.outdated()
	free := ix.garbage(outdated)
	if o.Unused {
		free = slices.Sorted(maps.Keys(ix.data))
	}
	free = slices.DeleteFunc(free, func(hex string) bool { return used[hex] || s.held[hex] > 0 })
	freed := ix.freed(free)
	if o.DryRun {
		return freed, true, nil
	}
	if err := s.deleteAll(ix, outdated, free); err != nil {
		return freed, true, fmt.Errorf("image store: %w", err)
	}
	return freed, true, nil
}

// freed says what goes with these digests.
func (ix *index) freed(free []string) []Freed {
	var all []Freed
	for _, hex := range free {
		f := Freed{Digest: hex, Bytes: ix.data[hex].blocks}
		if i, ok := ix.byHex[hex]; ok {
			f.Names = slices.Clone(ix.images[i].Names)
		}
		all = append(all, f)
	}
	return all
}

// deleteAll removes links before the data they lead to. It needs s.mu.
func (s *Store) deleteAll(ix *index, links, free []string) error {
	for _, hex := range free {
		links = append(links, ix.linksOf(hex)...)
	}
	var errs []error
	for _, file := range links {
		errs = append(errs, removeIfExists(filepath.Join(s.linksDir, file)))
		ix.forgetLink(file)
	}
	if len(links) > 0 {
		errs = append(errs, syncDir(s.linksDir))
	}
	for _, hex := range free {
		s.step("before data removed")
		errs = append(errs, removeIfExists(filepath.Join(s.dataDir, hex)))
		delete(s.checked, hex)
		ix.forgetData(hex)
		s.step("data removed")
	}
	return errors.Join(errs...)
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

// garbage returns the digests of data without a link, but for these.
func (ix *index) garbage(outdated []string) []string {
	linked := map[string]bool{}
	for file, l := range ix.links {
		if !slices.Contains(outdated, file) {
			linked[l.hex] = true
		}
	}
	var out []string
	for hex := range ix.data {
		if !linked[hex] {
			out = append(out, hex)
		}
	}
	slices.Sort(out)
	return out
}
