package images

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// minIDPrefix is how many digits of an image id suffice.
const minIDPrefix = 4

// find resolves what people and kubelet call an image, in this order: its id or
// digest (64 hex digits with or without "sha256:"), a name by tag or digest
// with or without Prefix, the beginning of an id. The errors are
// errdefs.ErrNotFound, and errdefs.ErrInvalidArgument for a beginning that
// several ids share.
func (ix *index) find(ref string) (Image, error) {
	if i, ok := ix.findDigest(ref); ok {
		return ix.images[i], nil
	}
	if i, ok := ix.findName(ref); ok {
		return ix.images[i], nil
	}
	return ix.findPrefix(ref)
}

func (ix *index) findDigest(ref string) (int, bool) {
	hex := strings.TrimPrefix(ref, digestPrefix)
	if !isHexDigest(hex) {
		return 0, false
	}
	if i, ok := ix.byID[digestPrefix+hex]; ok {
		return i, true
	}
	// The id that Virtlet used.
	i, ok := ix.byHex[hex]
	return i, ok
}

func (ix *index) findName(ref string) (int, bool) {
	n, err := ParseName(ref)
	if err != nil {
		// Virtlet stored names that are no references.
		n = Name{Path: strings.TrimPrefix(ref, Prefix), Tag: latest}
	}
	if i, ok := ix.byKey[n.key()]; ok || n.Digest == "" {
		return i, ok
	}
	// Whatever it was pulled by, the digest of the disk will do.
	i, ok := ix.byHex[n.Digest]
	return i, ok && ix.images[i].hasPath(n.Path)
}

func (img Image) hasPath(path string) bool {
	for _, d := range img.RepoDigests {
		if repo, _, _ := strings.Cut(strings.TrimPrefix(d, Prefix), "@"); repo == path {
			return true
		}
	}
	return false
}

func (ix *index) findPrefix(ref string) (Image, error) {
	start := strings.TrimPrefix(ref, digestPrefix)
	notFound := fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	if len(start) < minIDPrefix || len(start) >= 64 || !isLowerHex(start) {
		return Image{}, notFound
	}
	var found []Image
	for _, img := range ix.images {
		if strings.HasPrefix(img.ID, digestPrefix+start) {
			found = append(found, img)
		}
	}
	switch len(found) {
	case 0:
		return Image{}, notFound
	case 1:
		return found[0], nil
	default:
		return Image{}, fmt.Errorf("image %q: %d image ids begin so, write more digits: %w", ref, len(found), errdefs.ErrInvalidArgument)
	}
}
