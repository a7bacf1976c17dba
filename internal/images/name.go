package images

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

const (
	// Prefix marks the names of VM images for kubelet, the CRI proxy and old
	// manifests. A name means the same image with and without it.
	Prefix = "virtlet.cloud/"

	digestPrefix = "sha256:"
	latest       = "latest"

	// maxLinkName is NAME_MAX of Linux file systems, in bytes.
	maxLinkName = 255
)

// Name is a parsed image name.
type Name struct {
	// Path is the name without prefix, tag and digest: "cirros",
	// "example.com/images/vm.qcow2".
	Path string
	// Tag is "latest" when none was written, and empty in a name by digest.
	Tag string
	// Digest is the wanted SHA-256 of the file in hex, or empty.
	Digest string
	// Prefixed tells whether the name was written with Prefix.
	Prefixed bool
}

// ParseName parses an image name as kubelet sends it: a docker reference of
// which the first component may be virtlet.cloud. A tag beside a digest is
// dropped, as container runtimes do. The error is an errdefs.ErrInvalidArgument.
func ParseName(s string) (Name, error) {
	rest, prefixed := strings.CutPrefix(s, Prefix)
	n, err := parseReference(rest)
	if err != nil {
		return Name{}, fmt.Errorf("image name %q: %w (accepted: [%s]path[:tag][@sha256:digest] in lower case; other URLs need a translation rule): %w",
			s, err, Prefix, errdefs.ErrInvalidArgument)
	}
	n.Prefixed = prefixed
	if len(n.linkName()) > maxLinkName {
		return Name{}, fmt.Errorf("image name %q: longer than %d bytes: %w", s, maxLinkName, errdefs.ErrInvalidArgument)
	}
	return n, nil
}

func parseReference(s string) (Name, error) {
	if isHexDigest(s) || strings.HasPrefix(s, digestPrefix) {
		return Name{}, errors.New("is an image id, not a name")
	}
	if strings.HasPrefix(s, Prefix) {
		return Name{}, errors.New("has the prefix twice")
	}
	ref, err := reference.Parse(s)
	if err != nil {
		return Name{}, err
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return Name{}, errors.New("has no path")
	}
	n := Name{Path: named.Name()}
	if d, ok := ref.(reference.Digested); ok {
		return n.withDigest(d.Digest().String())
	}
	n.Tag = latest
	if t, ok := ref.(reference.Tagged); ok {
		n.Tag = t.Tag()
	}
	return n, nil
}

func (n Name) withDigest(digest string) (Name, error) {
	hex, ok := strings.CutPrefix(digest, digestPrefix)
	if !ok || !isHexDigest(hex) {
		return Name{}, fmt.Errorf("digest %q is not sha256", digest)
	}
	n.Tag, n.Digest = "", hex
	return n, nil
}

// String returns the name as it was written, with ":latest" filled in.
func (n Name) String() string { return n.repo() + n.suffix() }

// key is what two spellings of the same image have in common.
func (n Name) key() string { return n.Path + n.suffix() }

func (n Name) repo() string {
	if n.Prefixed {
		return Prefix + n.Path
	}
	return n.Path
}

func (n Name) suffix() string {
	if n.Digest != "" {
		return "@" + digestPrefix + n.Digest
	}
	return ":" + n.Tag
}

// linkName returns the name's file name below links. Virtlet served only names
// whose prefix the proxy had taken off, and dropped tags: so a link without a
// tag is a prefixed name with ":latest", and every other name is written in full.
func (n Name) linkName() string {
	s := n.String()
	if n.Prefixed && n.Digest == "" && n.Tag == latest {
		s = n.Path
	}
	return strings.ReplaceAll(s, "/", "%")
}

// parseLinkName is the inverse of linkName. It accepts whatever Virtlet may
// have stored: names that are no docker references were used as they were.
func parseLinkName(file string) Name {
	s, prefixed := strings.CutPrefix(strings.ReplaceAll(file, "%", "/"), Prefix)
	if path, digest, ok := strings.Cut(s, "@"+digestPrefix); ok && isHexDigest(digest) {
		return Name{Path: path, Digest: digest, Prefixed: prefixed}
	}
	colon := strings.LastIndexByte(s, ':')
	if colon > 0 && isTag(s[colon+1:]) {
		return Name{Path: s[:colon], Tag: s[colon+1:], Prefixed: prefixed}
	}
	return Name{Path: s, Tag: latest, Prefixed: true}
}

// isTag tells whether s has the form of a tag.
func isTag(s string) bool {
	return len(s) <= 128 && reference.TagRegexp.FindString(s) == s && s != ""
}

// isHexDigest tells whether s is the hex form of a SHA-256.
func isHexDigest(s string) bool { return len(s) == 64 && isLowerHex(s) }

func isLowerHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
