package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	// schemeOCI is the scheme of URLs of the form oci://host/repository:tag.
	schemeOCI = "oci"
	// schemePlainOCI is the same without TLS.
	schemePlainOCI = "oci+http"

	// maxManifest bounds a manifest, in bytes; registries accept 4 MiB.
	maxManifest = 4 << 20
	dockerHub   = "registry-1.docker.io"
)

// isDockerHub knows the names of the one registry that has several.
func isDockerHub(host string) bool {
	return host == "docker.io" || host == "index.docker.io" || host == dockerHub
}

// artifact is a reference to something in a registry.
type artifact struct {
	host, repository string
	// ref is a tag, or "sha256:" and a digest.
	ref string
	// title chooses one of several layers, see chooseLayers.
	title string
	plain bool // without TLS
}

// parseArtifact reads a URL of the form oci://host[:port]/repository[:tag|@digest][#title].
// Where it has neither tag nor digest, it takes the name's.
func parseArtifact(u *url.URL, n Name) (artifact, error) {
	a := artifact{host: u.Host, title: u.Fragment, plain: u.Scheme == schemePlainOCI}
	// Some host, as the grammar knows fewer than there are.
	ref, err := reference.Parse("registry.invalid" + u.Path)
	named, ok := ref.(reference.Named)
	if err != nil || !ok || u.Path == "" {
		return artifact{}, fmt.Errorf("not a reference (accepted: oci://host[:port]/repository[:tag][@sha256:digest], in lower case): %w", errdefs.ErrInvalidArgument)
	}
	a.repository = strings.TrimPrefix(named.Name(), "registry.invalid/")
	switch r := ref.(type) {
	case reference.Digested:
		a.ref = r.Digest().String()
	case reference.Tagged:
		a.ref = r.Tag()
	default:
		a.ref = n.Tag
		if n.Digest != "" {
			a.ref = digestPrefix + n.Digest
		}
	}
	if d, ok := ref.(reference.Digested); ok && d.Digest().Algorithm() != "sha256" {
		return artifact{}, fmt.Errorf("digest %s (accepted: sha256): %w", d.Digest().Algorithm(), errdefs.ErrInvalidArgument)
	}
	if isDockerHub(a.host) {
		a.host = dockerHub
		if !strings.Contains(a.repository, "/") {
			a.repository = "library/" + a.repository
		}
	}
	return a, nil
}

// url returns the address of a manifest or blob (OCI distribution specification).
func (a artifact) url(kind, ref string) *url.URL {
	u := &url.URL{Scheme: "https", Host: a.host, Path: "/v2/" + a.repository + "/" + kind + "/" + ref}
	if a.plain {
		u.Scheme = "http"
	}
	return u
}

// registry is a conversation with a registry about one artifact.
type registry struct {
	artifact
	fetcher
	prog *progress
}

// newRegistry uses the job's client, and its credentials for this registry and
// the token service that it names, over TLS only.
func (j *job) newRegistry(a artifact) *registry {
	c := &auth.Client{Client: j.client, Cache: auth.NewCache(), ClientID: "qemulet"}
	if !a.plain {
		c.Credential = auth.StaticCredential(a.host, j.credential())
	}
	r := &registry{artifact: a, fetcher: j.fetcher, prog: j.prog}
	r.do = func(req *http.Request) (*http.Response, error) {
		resp, err := c.Do(req)
		return resp, registryError(err)
	}
	return r
}

// credential prefers what the URL has.
func (j *job) credential() auth.Credential {
	if user := j.url.User; user != nil {
		password, _ := user.Password()
		return auth.Credential{Username: user.Username(), Password: password}
	}
	if !j.auth.isFor(j.url) {
		return auth.EmptyCredential
	}
	user, password := j.auth.basic()
	return auth.Credential{Username: user, Password: password, RefreshToken: j.auth.IdentityToken, AccessToken: j.auth.RegistryToken}
}

// registryError gives errors of the token service the classes of ours.
func registryError(err error) error {
	var resp *errcode.ErrorResponse
	switch {
	case errors.As(err, &resp):
		return &StatusError{URL: redact(resp.URL), Code: resp.StatusCode, redirected: true}
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("the registry asks for a user name and a password: %w", errdefs.ErrUnauthenticated)
	}
	return err
}

// manifest fetches a manifest or index, by tag or digest, and returns its digest
// in hex.
func (r *registry) manifest(ctx context.Context, ref string) (m manifest, digest string, err error) {
	st := &stream{
		fetcher: r.fetcher, ctx: ctx, url: r.url("manifests", ref), accept: strings.Join(manifestTypes(), ", "),
		prog: r.prog.aside(),
	}
	text, err := st.readAtMost(maxManifest)
	if err != nil {
		return manifest{}, "", fmt.Errorf("manifest %s: %w", ref, err)
	}
	sum := sha256.Sum256(text)
	digest = hex.EncodeToString(sum[:])
	if want, ok := strings.CutPrefix(ref, digestPrefix); ok && want != digest {
		return manifest{}, "", wanted{want, "the reference"}.mismatch(digest)
	}
	if m, err = parseManifest(text, st.mediaType); err != nil {
		return manifest{}, "", fmt.Errorf("manifest %s: %w", ref, err)
	}
	return m, digest, nil
}

// resolve fetches the manifest for the architecture, and returns the digests
// that lead to it, its own last.
func (r *registry) resolve(ctx context.Context, arch string) (manifest, []string, error) {
	m, digest, err := r.manifest(ctx, r.ref)
	if err != nil || !m.isIndex() {
		return m, []string{digest}, err
	}
	d, err := m.forArch(arch)
	if err != nil {
		return manifest{}, nil, err
	}
	m, own, err := r.manifest(ctx, d.Digest)
	if err == nil && m.isIndex() {
		err = fmt.Errorf("manifest %s: it is an index inside of an index: %w", d.Digest, errdefs.ErrFailedPrecondition)
	}
	return m, []string{digest, own}, err
}

// fillFromRegistry finds the layers that may have the disk, and takes the first
// that has.
func (s *Store) fillFromRegistry(ctx context.Context, j *job, in *intake) (arrival, error) {
	a, err := parseArtifact(j.url, j.name)
	if err != nil {
		return arrival{}, err
	}
	r := j.newRegistry(a)
	m, digests, err := r.resolve(ctx, s.opts.Arch)
	if err != nil {
		return arrival{}, err
	}
	layers, err := m.diskLayers(a.title)
	if err != nil {
		return arrival{}, err
	}
	if len(layers) == 1 {
		digests = append(digests, layers[0].hex())
	}
	if a.title != "" {
		// The manifest stands for several disks.
		digests = digests[len(digests)-1:]
	}
	if err := s.stopIfKnown(j, digests); err != nil {
		return arrival{}, err
	}
	in.archive = true
	return arrival{digests: digests}, r.fillFromLayers(ctx, layers, in)
}

// stopIfKnown returns *known when what the digests stand for is stored.
func (s *Store) stopIfKnown(j *job, digests []string) error {
	s.mu.Lock()
	hex := s.knownAs(digests[len(digests)-1])
	s.mu.Unlock()
	if hex == "" || j.fresh {
		return nil
	}
	if err := j.check(hex, digests); err != nil {
		return err
	}
	return &known{hex, digests}
}

func (r *registry) fillFromLayers(ctx context.Context, layers []descriptor, in *intake) error {
	for _, l := range layers {
		err := r.fillFromLayer(ctx, l, in)
		if !errors.Is(err, errNoDisk) {
			return err
		}
		if err := in.empty(); err != nil {
			return err
		}
	}
	return fmt.Errorf("no usable disk image in any of %d layers: %w", len(layers), errNoDisk)
}

// fillFromLayer reads a whole layer and compares its digest, also when it has no
// disk.
func (r *registry) fillFromLayer(ctx context.Context, l descriptor, in *intake) error {
	st := &stream{fetcher: r.fetcher, ctx: ctx, url: r.url("blobs", l.Digest), prog: r.prog, immutable: true}
	st.announced = func(total int64) error {
		if total != l.Size {
			return fmt.Errorf("layer %s: %d bytes instead of %d: %w", l.Digest, total, l.Size, errdefs.ErrDataLoss)
		}
		return in.announced(total)
	}
	defer st.close()
	sum, err := in.fill(st)
	if err != nil && !errors.Is(err, errNoDisk) {
		return fmt.Errorf("layer %s: %w", l.Digest, err)
	}
	if sum != l.hex() {
		return wanted{l.hex(), "the manifest"}.mismatch(sum)
	}
	return err
}
