package images

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// download is one running pull. Callers that want the same join it.
type download struct {
	prog    *progress
	cancel  context.CancelCauseFunc
	waiters int // guarded by Store.mu
	done    chan struct{}
	image   Image // valid after done, as is err
	err     error
}

// pullKey tells which pulls are the same. Others' credentials are not: who has
// none must not get what another may read.
type pullKey struct {
	name string
	auth Auth
}

func newPullKey(n Name, auth *Auth) pullKey {
	k := pullKey{name: n.key()}
	if auth != nil {
		k.auth = *auth
	}
	return k
}

// errNobodyWaits ends a download whose callers have all gone.
var errNobodyWaits = errors.New("nobody waits for the image any more")

// Pull fetches the image with the name and returns it when it is stored. A pull
// by digest of something that is stored, and one of something that the server
// says is unchanged, move no data. Calls for the same name share one download,
// which ends when the context of the last of them does; the error then is that
// context's. Other errors have errdefs classes; ErrDigestMismatch, ErrStalled
// and *StatusError tell more. auth may be nil.
func (s *Store) Pull(ctx context.Context, ref string, auth *Auth) (Image, error) {
	n, err := ParseName(ref)
	if err != nil {
		return Image{}, err
	}
	if err := ctx.Err(); err != nil {
		return Image{}, pullError(n, err)
	}
	key := newPullKey(n, auth)
	d, err := s.join(ctx, key, n, auth)
	if err != nil {
		return Image{}, pullError(n, err)
	}
	defer s.leave(key, d)
	select {
	case <-d.done:
	case <-ctx.Done():
		return Image{}, pullError(n, ctx.Err())
	}
	if d.err != nil {
		return Image{}, pullError(n, d.err)
	}
	return d.image.clone(), nil
}

func pullError(n Name, err error) error { return fmt.Errorf("pull image %s: %w", n, err) }

// join returns the running download, or starts one. Its context keeps the
// first caller's values, but not its end.
func (s *Store) join(ctx context.Context, key pullKey, n Name, auth *Auth) (*download, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if d, running := s.downloads[key]; running {
		d.waiters++
		return d, nil
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	d := &download{
		prog:    s.newProgress(n.String(), time.Now()),
		cancel:  cancel,
		waiters: 1,
		done:    make(chan struct{}),
	}
	s.downloads[key] = d
	s.wg.Go(func() {
		defer cancel(nil)
		d.image, d.err = s.run(ctx, n, auth, d.prog)
		s.ended(key, d)
		s.tell(d)
	})
	return d, nil
}

// ended makes the result known. Later callers start anew.
func (s *Store) ended(key pullKey, d *download) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.downloads[key] == d {
		delete(s.downloads, key)
	}
	close(d.done)
}

// tell is for Options.Ended.
func (s *Store) tell(d *download) {
	snapshot := d.prog.snapshot()
	err := d.err
	if errors.Is(err, errNobodyWaits) || errors.Is(err, ErrClosed) {
		err = context.Canceled
	}
	s.opts.Ended(Ended{Download: snapshot, Took: time.Since(snapshot.Started), Err: err})
}

// leave is called by each caller once. The last one ends the download, which
// nobody may join from then on.
func (s *Store) leave(key pullKey, d *download) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.waiters--; d.waiters > 0 {
		return
	}
	d.cancel(errNobodyWaits)
	if s.downloads[key] == d {
		delete(s.downloads, key)
	}
}

// Downloads returns the running pulls, the oldest first.
func (s *Store) Downloads() []Download {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Download, 0, len(s.downloads))
	for _, d := range s.downloads {
		out = append(out, d.prog.snapshot())
	}
	slices.SortFunc(out, func(a, b Download) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.Ref, b.Ref)
	})
	return out
}

func (s *Store) resolve(ctx context.Context, n Name) Resolution {
	return Translate(n, s.translations(ctx), TranslateOptions{
		Protocol: s.opts.Protocol, NoRegexp: s.opts.NoRegexp, Warn: s.opts.Warn,
	})
}

// run is the life of a download.
func (s *Store) run(ctx context.Context, n Name, auth *Auth, prog *progress) (Image, error) {
	if n.Digest != "" {
		if img, ok, err := s.link(ctx, n, n.Digest); ok || err != nil {
			return img, err
		}
	}
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return Image{}, context.Cause(ctx)
	}
	res := s.resolve(ctx, n)
	u, err := parseURL(n, res)
	if err != nil {
		return Image{}, err
	}
	prog.start(redact(u))
	img, err := s.fetchImage(ctx, n, res, &fetcher{
		url: u, auth: auth, prog: prog,
		maxSize: s.opts.MaxSize, stall: s.opts.StallTimeout, backoff: s.opts.Backoff, retries: s.opts.Retries,
	})
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w%s", redact(u), err, hint(n, res, err))
	}
	return img, nil
}

// hint helps those whose name was not meant to be a URL.
func hint(n Name, res Resolution, err error) string {
	var status *StatusError
	if res.Rule != nil || errors.As(err, &status) || !permanent(err) {
		return ""
	}
	return fmt.Sprintf(" (no image translation rule matches %q, so the name was taken for a URL)", n.Path)
}

func parseURL(n Name, res Resolution) (*url.URL, error) {
	if res.Rule == nil && !strings.Contains(n.Path, "/") {
		return nil, fmt.Errorf("no image translation rule matches %q, and it is no URL (accepted: host/path): %w", n.Path, errdefs.ErrInvalidArgument)
	}
	u, err := url.Parse(res.URL)
	if err != nil {
		// The parser's error quotes the URL, which may hold a password.
		return nil, fmt.Errorf("translation %s: the url for %q does not parse: %w", res.Source, n.Path, errdefs.ErrInvalidArgument)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%s: not supported (accepted: https://host/path, http://host/path): %w", redact(u), errdefs.ErrInvalidArgument)
	}
	return u, nil
}

// fetchImage fills in the fetcher, runs it, and stores what it brings.
func (s *Store) fetchImage(ctx context.Context, n Name, res Resolution, f *fetcher) (Image, error) {
	if t := res.Profile.timeout(); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t, fmt.Errorf("the transport profile's timeout of %v is over: %w", t, errdefs.ErrUnavailable))
		defer cancel()
	}
	client, err := res.Profile.client(s.opts.Warn)
	if err != nil {
		return Image{}, fmt.Errorf("translation %s: transport %q: %w: %w", res.Source, res.ProfileName, err, errdefs.ErrInvalidArgument)
	}
	defer client.CloseIdleConnections()
	f.client = client
	if n.Digest == "" {
		f.cached = s.source(res.URL)
	}
	img, err := s.fetchInto(ctx, n, res, f)
	if errors.Is(err, errNotModified) {
		return s.unchanged(ctx, n, res, f)
	}
	return img, err
}

// unchanged gives the name to what is stored, or fetches it after all when it
// has gone meanwhile.
func (s *Store) unchanged(ctx context.Context, n Name, res Resolution, f *fetcher) (Image, error) {
	img, ok, err := s.link(ctx, n, f.cached.Digest)
	if ok || err != nil {
		return img, err
	}
	f.cached = source{}
	return s.fetchInto(ctx, n, res, f)
}

func (s *Store) fetchInto(ctx context.Context, n Name, res Resolution, f *fetcher) (_ Image, err error) {
	if f.part, err = newPart(s.dataDir); err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, f.part.discard()) }()
	s.step("part created")
	if err := f.fetch(ctx); err != nil {
		return Image{}, err
	}
	s.step("part written")
	if err := f.part.finish(); err != nil {
		return Image{}, err
	}
	s.step("part synced")
	c, err := s.verify(n, f.part)
	if err != nil {
		return Image{}, err
	}
	// From here on a caller that goes away gets what it asked for.
	if ctx.Err() != nil {
		return Image{}, context.Cause(ctx)
	}
	img, err := s.commit(context.WithoutCancel(ctx), n, f.part, c)
	if err != nil {
		return Image{}, err
	}
	f.current.Digest = img.Digest
	s.remember(res.URL, f.current)
	return img, nil
}

// verify compares the digest and looks at the format.
func (s *Store) verify(n Name, p *part) (checked, error) {
	if n.Digest != "" && p.digest() != n.Digest {
		return checked{}, fmt.Errorf("%w: sha256:%s instead of sha256:%s: %w", ErrDigestMismatch, p.digest(), n.Digest, errdefs.ErrFailedPrecondition)
	}
	c := s.check(p.f)
	if c.err != nil {
		return checked{}, refused(c.err)
	}
	return c, nil
}
