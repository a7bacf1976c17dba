package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// job is one image to be fetched.
type job struct {
	fetcher
	name Name
	res  Resolution
	url  *url.URL
	auth *Auth
	prog *progress

	client *http.Client
	wanted []wanted
	cached source // what is in the store already; may be zero
	fresh  bool   // what is in the store does not count
}

// wanted is a digest that the image must have.
type wanted struct {
	digest string // hex
	by     string // who wants it, for messages
}

// arrival is what a source has sent.
type arrival struct {
	// digests, in hex, stand for the content, what identifies it best first: of
	// the file that was sent; of a registry's index, manifest and layer.
	digests []string
	// source is what the store remembers of it.
	source source
}

// known is the error of a fetch that found its content in the store.
type known struct {
	digest string   // of the file
	sent   []string // see arrival
}

func (k *known) Error() string { return "already stored" }

// schemes are the protocols of URLs.
func schemes() []string { return []string{"https", "http", schemeFile, schemeOCI, schemePlainOCI} }

// parseURL checks the URL of a translation.
func parseURL(n Name, res Resolution) (*url.URL, error) {
	if res.Rule == nil && res.URL == "" {
		return nil, fmt.Errorf("no image translation rule matches %q, and this node takes no other names (the setting download-protocol is none): %w", n.Path, errdefs.ErrPermissionDenied)
	}
	if res.Rule == nil && !strings.Contains(n.Path, "/") {
		return nil, fmt.Errorf("no image translation rule matches %q, and it is no URL (accepted: host/path): %w", n.Path, errdefs.ErrInvalidArgument)
	}
	u, err := url.Parse(res.URL)
	if err != nil {
		// The parser's error quotes the URL, which may hold a password.
		return nil, fmt.Errorf("translation %s: the url for %q does not parse: %w", res.Source, n.Path, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains(schemes(), u.Scheme) || (u.Host == "") != (u.Scheme == schemeFile) {
		return nil, fmt.Errorf("%s: not supported (accepted: https://host/path, http://host/path, oci://host/repository:tag, file:///path): %w", redact(u), errdefs.ErrInvalidArgument)
	}
	if u.Scheme == schemeOCI || u.Scheme == schemePlainOCI {
		if _, err := parseArtifact(u, n); err != nil {
			return nil, fmt.Errorf("%s: %w", redact(u), err)
		}
	}
	return u, nil
}

// hint helps those whose name was not meant to be a URL, and those whose
// credentials were meant for somebody else.
func (j *job) hint(err error) string {
	var status *StatusError
	if errors.As(err, &status) {
		if status.Code == http.StatusUnauthorized && j.auth != nil && !j.auth.isFor(j.url) {
			return fmt.Sprintf(" (the credentials are for %q and were not sent)", j.auth.ServerAddress)
		}
		return ""
	}
	if j.res.Rule != nil || !permanent(err) {
		return ""
	}
	return fmt.Sprintf(" (no image translation rule matches %q, so the name was taken for a URL)", j.name.Path)
}

// fetch gets and stores the image of a job.
func (s *Store) fetch(ctx context.Context, j *job) (Image, error) {
	if t := j.res.Profile.timeout(); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t, fmt.Errorf("the transport profile's timeout of %v is over: %w", t, errdefs.ErrUnavailable))
		defer cancel()
	}
	client, err := j.res.Profile.client(s.opts.Warn)
	if err != nil {
		return Image{}, fmt.Errorf("translation %s: transport %q: %w: %w", j.res.Source, j.res.ProfileName, err, errdefs.ErrInvalidArgument)
	}
	defer client.CloseIdleConnections()
	j.client = client
	j.fetcher = fetcher{do: client.Do, stall: s.opts.StallTimeout, backoff: s.opts.Backoff, retries: s.opts.Retries}
	if err := s.gatherWanted(ctx, j); err != nil {
		return Image{}, err
	}
	for _, w := range j.wanted {
		if img, ok, err := s.linkKnown(ctx, j.name, w.digest); ok || err != nil {
			return img, err
		}
	}
	return s.fetchUnlessKnown(ctx, j)
}

// fetchUnlessKnown fetches what the source does not say to be in the store.
func (s *Store) fetchUnlessKnown(ctx context.Context, j *job) (Image, error) {
	if len(j.wanted) == 0 {
		j.cached = s.source(j.res.URL)
	}
	img, err := s.fetchInto(ctx, j)
	var k *known
	if !errors.As(err, &k) {
		return img, err
	}
	img, ok, err := s.link(ctx, j.name, k.digest)
	if err != nil {
		return Image{}, err
	}
	if ok {
		return s.pulled(ctx, j.name, img, k.sent)
	}
	// It has gone meanwhile.
	j.cached, j.fresh = source{}, true
	return s.fetchInto(ctx, j)
}

func (s *Store) fetchInto(ctx context.Context, j *job) (_ Image, err error) {
	p, err := newPart(s.dataDir)
	if err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, p.discard()) }()
	s.step("part created")
	a, err := s.fill(ctx, j, &intake{part: p, maxSize: s.opts.MaxSize, isDisk: s.opts.IsDisk})
	if err != nil {
		return Image{}, err
	}
	s.step("part written")
	if err := p.finish(); err != nil {
		return Image{}, err
	}
	s.step("part synced")
	c, err := s.verify(j, p, a)
	if err != nil {
		return Image{}, err
	}
	// From here on a caller that goes away gets what it asked for.
	if ctx.Err() != nil {
		return Image{}, context.Cause(ctx)
	}
	img, err := s.commit(context.WithoutCancel(ctx), j.name, p, c)
	if err != nil {
		return Image{}, err
	}
	a.source.Digest, a.source.Sent = img.Digest, a.digests
	s.remember(j.res.URL, a.source)
	return s.pulled(context.WithoutCancel(ctx), j.name, img, a.digests)
}

// fill fetches from where the URL says.
func (s *Store) fill(ctx context.Context, j *job, in *intake) (arrival, error) {
	switch j.url.Scheme {
	case schemeFile:
		return s.fillFromFile(ctx, j, in)
	case schemeOCI, schemePlainOCI:
		return s.fillFromRegistry(ctx, j, in)
	}
	return j.fillFromHTTP(ctx, in)
}

func (j *job) fillFromHTTP(ctx context.Context, in *intake) (arrival, error) {
	if err := j.auth.usable(); err != nil {
		return arrival{}, err
	}
	st := &stream{fetcher: j.fetcher, ctx: ctx, url: j.url, auth: j.auth, cached: j.cached, prog: j.prog, announced: in.announced}
	defer st.close()
	sum, err := in.fill(st)
	if errors.Is(err, errNotModified) {
		return arrival{}, &known{j.cached.Digest, j.cached.Sent}
	}
	return arrival{digests: []string{sum}, source: st.current}, err
}

// verify compares the digests and looks at the format.
func (s *Store) verify(j *job, p *part, a arrival) (checked, error) {
	if err := j.check(p.digest(), a.digests); err != nil {
		return checked{}, err
	}
	c := s.check(p.f)
	if c.err != nil {
		return checked{}, refused(c.err)
	}
	return c, nil
}

// check compares what is wanted with the digests of a disk and of what it came in.
func (j *job) check(disk string, sent []string) error {
	for _, w := range j.wanted {
		if w.digest != disk && !slices.Contains(sent, w.digest) {
			return w.mismatch(sent[0])
		}
	}
	return nil
}

// mismatch is the error of content with another digest.
func (w wanted) mismatch(got string) error {
	return fmt.Errorf("%w: sha256:%s instead of sha256:%s, which %s asks for: %w", ErrDigestMismatch, got, w.digest, w.by, errdefs.ErrFailedPrecondition)
}
