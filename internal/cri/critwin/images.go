package critwin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/images"
)

// Images is the twin of *images.Store. The content of an image is the part of
// its name behind the last slash, without the tag.
type Images struct {
	// Before is called at the beginning of Pull.
	Before func(ctx context.Context, ref string, auth *images.Auth) error

	mu  sync.Mutex
	all map[string]images.Image // by digest
}

// Pull stores the image under one more name.
func (s *Images) Pull(ctx context.Context, ref string, auth *images.Auth) (images.Image, error) {
	if s.Before != nil {
		if err := s.Before(ctx, ref, auth); err != nil {
			return images.Image{}, err
		}
	}
	name := normal(ref)
	content := name[strings.LastIndex(name, "/")+1 : strings.LastIndex(name, ":")]
	sum := sha256.Sum256([]byte(content))
	digest := hex.EncodeToString(sum[:])

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]images.Image{}
	}
	img := s.all[digest]
	img.ID, img.Digest, img.PulledAt = images.ID(digest), digest, time.Now()
	img.Size, img.VirtualSize, img.Path = int64(1000+len(content)), 1<<30, "/data/"+digest
	if !slices.Contains(img.Names, name) {
		img.Names = append(img.Names, name)
		repo := name[:strings.LastIndex(name, ":")]
		img.RepoDigests = append(img.RepoDigests, repo+"@sha256:"+digest)
	}
	s.all[digest] = img
	return img, nil
}

func normal(ref string) string {
	name := "virtlet.cloud/" + strings.TrimPrefix(ref, "virtlet.cloud/")
	if strings.Contains(name[strings.LastIndex(name, "/"):], ":") {
		return name
	}
	return name + ":latest"
}

func (s *Images) find(ref string) (images.Image, error) {
	for _, img := range s.all {
		if img.ID == ref || slices.Contains(img.Names, normal(ref)) || slices.Contains(img.RepoDigests, ref) {
			return img, nil
		}
	}
	return images.Image{}, fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
}

// List lists all, or the one that filter names.
func (s *Images) List(_ context.Context, filter string) ([]images.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if filter != "" {
		img, err := s.find(filter)
		if err != nil {
			return nil, nil
		}
		return []images.Image{img}, nil
	}
	var all []images.Image
	for _, img := range s.all {
		all = append(all, img)
	}
	slices.SortFunc(all, func(a, b images.Image) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

// Get finds an image by id, name or digest.
func (s *Images) Get(_ context.Context, ref string) (images.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(ref)
}

// Remove forgets an image with all its names.
func (s *Images) Remove(_ context.Context, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	img, err := s.find(ref)
	if err == nil {
		delete(s.all, img.Digest)
	}
	return ignoreNotFound(err)
}

// FSInfo counts the images.
func (s *Images) FSInfo() (images.FSInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return images.FSInfo{Mountpoint: "/", UsedBytes: uint64(1000 * len(s.all)), InodesUsed: uint64(len(s.all)), Time: time.Now()}, nil
}
