package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
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
	rules := s.rules()
	return Translate(n, s.translations(ctx), TranslateOptions{
		Protocol: rules.Protocol, NoRegexp: rules.NoRegexp, Warn: s.opts.Warn,
	})
}

// run is the life of a download.
func (s *Store) run(ctx context.Context, n Name, auth *Auth, prog *progress) (Image, error) {
	if img, ok, err := s.linkKnown(ctx, n, n.Digest); ok || err != nil {
		return img, err
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
	j := &job{name: n, res: res, url: u, auth: auth, prog: prog}
	img, err := s.fetch(ctx, j)
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w%s", redact(u), err, j.hint(err))
	}
	img.Translated = res.describe(redact(u))
	return img, nil
}
