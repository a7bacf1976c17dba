package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Media types of manifests (OCI image specification, media types; Docker image
// manifest, version 2, schema 2).
const (
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeDockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeOCIConfig      = "application/vnd.oci.image.config.v1+json"
	typeDockerConfig   = "application/vnd.docker.container.image.v1+json"

	// titleAnnotation names a layer's file (OCI image specification, annotations).
	titleAnnotation = "org.opencontainers.image.title"
	// maxLayers is more than any container engine makes.
	maxLayers = 256
)

func manifestTypes() []string {
	return []string{typeOCIIndex, typeDockerIndex, typeOCIManifest, typeDockerManifest}
}

// manifest is an index or the manifest of an image or artifact.
type manifest struct {
	MediaType string       `json:"mediaType"`
	Manifests []descriptor `json:"manifests"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
}

// descriptor is a reference to a blob or manifest.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *platform         `json:"platform"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

func (p platform) String() string { return p.OS + "/" + p.Architecture }

func (d descriptor) hex() string   { return strings.TrimPrefix(d.Digest, digestPrefix) }
func (d descriptor) title() string { return d.Annotations[titleAnnotation] }

func (m manifest) isIndex() bool {
	return m.MediaType == typeOCIIndex || m.MediaType == typeDockerIndex
}

// parseManifest parses what a registry sent with the content type.
func parseManifest(text []byte, contentType string) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return manifest{}, badManifest(looksOr(text, "it is no JSON"))
	}
	header, _, _ := mime.ParseMediaType(contentType)
	if m.MediaType == "" {
		m.MediaType = header // OCI leaves the field optional
	}
	switch {
	case !slices.Contains(manifestTypes(), m.MediaType):
		return manifest{}, badManifest(fmt.Sprintf("media type %q (accepted: %s)", m.MediaType, strings.Join(manifestTypes(), ", ")))
	case slices.Contains(manifestTypes(), header) && header != m.MediaType:
		return manifest{}, badManifest(fmt.Sprintf("it was sent as %s, and says that it is %s", header, m.MediaType))
	case len(m.Manifests) > 0 && len(m.Layers) > 0:
		return manifest{}, badManifest("it has both manifests and layers")
	case len(m.Manifests) > maxLayers || len(m.Layers) > maxLayers:
		return manifest{}, badManifest(fmt.Sprintf("it has more than %d entries", maxLayers))
	}
	for _, d := range slices.Concat(m.Manifests, m.Layers) {
		if hex, ok := strings.CutPrefix(d.Digest, digestPrefix); !ok || !isHexDigest(hex) || d.Size < 0 {
			return manifest{}, badManifest(fmt.Sprintf("digest %q, size %d (accepted: sha256)", d.Digest, d.Size))
		}
	}
	return m, nil
}

func badManifest(text string) error {
	return fmt.Errorf("not a usable manifest: %s: %w", text, errdefs.ErrFailedPrecondition)
}

func looksOr(head []byte, otherwise string) string {
	if what := looksLike(head); what != "" {
		return "it looks like " + what
	}
	return otherwise
}

// forArch chooses the manifest for Linux on an architecture, by Go's name. One
// that is alone and says nothing is for all.
func (m manifest) forArch(arch string) (descriptor, error) {
	want := platform{"linux", arch}
	var others []string
	for _, d := range m.Manifests {
		switch {
		case d.Platform == nil && len(m.Manifests) == 1:
			return d, nil
		case d.Platform == nil:
			continue
		case *d.Platform == want:
			return d, nil
		}
		others = append(others, d.Platform.String())
	}
	return descriptor{}, fmt.Errorf("no image for %s (there are: %s): %w", want, strings.Join(others, ", "), errdefs.ErrNotFound)
}

// diskLayers returns the layers that may have the disk, the likeliest first: of
// an artifact the one with the title, the only one with any, or the only one; of
// a container image all, from the top.
func (m manifest) diskLayers(title string) ([]descriptor, error) {
	var titles []string
	var titled []descriptor
	for _, l := range m.Layers {
		if l.title() == "" {
			continue
		}
		titles, titled = append(titles, l.title()), append(titled, l)
	}
	switch {
	case title != "":
		i := slices.Index(titles, title)
		if i < 0 {
			return nil, fmt.Errorf("no layer has the title %q (there are: %s): %w", title, strings.Join(titles, ", "), errdefs.ErrNotFound)
		}
		return titled[i : i+1], nil
	case len(m.Layers) == 0:
		return nil, refused(errors.New("the manifest has no layers"))
	case len(m.Layers) == 1:
		return m.Layers, nil
	case len(titled) == 1:
		return titled, nil
	case len(titled) == 0 && (m.Config.MediaType == typeOCIConfig || m.Config.MediaType == typeDockerConfig):
		layers := slices.Clone(m.Layers)
		slices.Reverse(layers)
		return layers, nil
	}
	return nil, refused(fmt.Errorf("the artifact has %d layers, choose one by adding #title to the url (there are: %s)", len(m.Layers), strings.Join(titles, ", ")))
}
