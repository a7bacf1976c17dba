package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/containerd/errdefs"
)

// fetcher says how to get files over HTTP.
type fetcher struct {
	do      func(*http.Request) (*http.Response, error)
	stall   time.Duration
	backoff time.Duration
	retries int
}

// stream is the body of one URL. It is read once from the beginning to the end;
// behind the reader's back it goes on where a connection broke off, if the
// server says that the content is the same. Its owner ends it with close. It
// keeps the context of the download that it is a part of.
type stream struct {
	fetcher
	ctx  context.Context
	url  *url.URL
	auth *Auth
	// accept is the Accept header, "" for none.
	accept string
	cached source // what is in the store already; may be zero
	prog   *progress
	// announced is called with the length as soon as it is known; its error ends
	// the stream. It may be nil.
	announced func(total int64) error
	// immutable tells that the URL can only ever mean one content, which the
	// reader verifies: it is continued without asking whether it has changed.
	immutable bool

	body      io.ReadCloser // of the current attempt, nil between them
	watch     *watchdog
	off       int64  // bytes delivered
	total     int64  // bytes, -1 when not announced
	validator string // of the content that began: an ETag or a date
	current   source // what the server says about the content
	mediaType string
	failures  int
	farthest  int64
	void      bool  // what was delivered does not count
	broken    error // why the current attempt ended
	err       error // why the stream ended
}

// worthwhile is by how many bytes an attempt must get further than all before
// for its failure to count as the first.
const worthwhile = 1 << 20

var (
	// errNotModified says that the cached source is still what the server has.
	errNotModified = errors.New("not modified")
	// errStartOver says that the server has other content by now: what was read
	// does not count, and the next byte is the first.
	errStartOver = errors.New("the content has changed")
)

// Read implements io.Reader. Its errors are final but for errStartOver.
func (s *stream) Read(b []byte) (int, error) {
	for s.err == nil {
		if s.broken != nil {
			s.err = s.again()
			continue
		}
		if s.body == nil {
			s.broken = s.connect()
			if s.void && s.broken == nil {
				s.void = false
				return 0, errStartOver
			}
			continue
		}
		n, err := s.body.Read(b)
		s.off += int64(n)
		s.settle(err)
		if n > 0 {
			return n, nil
		}
	}
	return 0, s.err
}

// settle ends the attempt, or the stream, after a read.
func (s *stream) settle(err error) {
	switch {
	case s.total >= 0 && s.off > s.total:
		s.err = fmt.Errorf("%d bytes were announced, more came: %w", s.total, errdefs.ErrDataLoss)
	case err == io.EOF && s.total >= 0 && s.off < s.total:
		s.broken = s.truncated(io.ErrUnexpectedEOF)
	case err == io.EOF:
		s.err = io.EOF
	case err != nil:
		s.broken = s.watch.explain(s.truncated(err))
	}
}

func (s *stream) truncated(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return &readError{err}
	}
	if s.total < 0 {
		return &readError{fmt.Errorf("the connection ended after %d bytes: %w", s.off, err)}
	}
	return &readError{fmt.Errorf("the connection ended after %d of %d bytes: %w", s.off, s.total, err)}
}

// again makes way for another attempt, or returns why there is none.
func (s *stream) again() error {
	err := s.broken
	s.broken = nil
	s.hangUp()
	if !retryable(err) {
		return err
	}
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if s.off >= s.farthest+worthwhile {
		s.failures, s.farthest = 0, s.off
	}
	if s.failures++; s.failures > s.retries {
		return gaveUp(err, s.failures)
	}
	return pause(s.ctx, s.delay(s.failures, err))
}

func gaveUp(err error, attempts int) error {
	if attempts == 1 {
		return err
	}
	return fmt.Errorf("%w (tried %d times)", err, attempts)
}

// delay returns the pause before the next attempt: doubled each time, or what
// the server asked for within bounds.
func (f *fetcher) delay(failures int, err error) time.Duration {
	d := f.backoff << min(failures-1, 10)
	var status *StatusError
	if errors.As(err, &status) && status.retryAfter > d {
		d = status.retryAfter
	}
	return min(d, maxBackoff)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close ends the stream. It may be called again.
func (s *stream) close() { s.hangUp() }

// hangUp ends the current attempt.
func (s *stream) hangUp() {
	if s.body != nil {
		_ = s.body.Close()
		s.body = nil
	}
	if s.watch != nil {
		s.watch.close()
		s.watch = nil
	}
}

// connect makes one request and prepares for reading its body.
func (s *stream) connect() error {
	ctx, w := newWatchdog(s.ctx, s.stall)
	s.watch = w
	resp, err := s.request(ctx)
	if err != nil {
		return w.explain(s.requestError(err))
	}
	s.body = &watched{resp.Body, w, s.prog}
	return s.take(resp)
}

func (s *stream) request(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "qemulet")
	if s.accept != "" {
		req.Header.Set("Accept", s.accept)
	}
	s.auth.apply(req)
	switch {
	case s.off > 0 && s.immutable:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", s.off))
	case s.off > 0 && s.validator != "":
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", s.off))
		req.Header.Set("If-Range", s.validator)
	default:
		s.cached.condition(req.Header)
	}
	s.watch.arm()
	defer s.watch.disarm()
	return s.do(req)
}

// take looks at a response's head.
func (s *stream) take(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		s.begin(resp)
	case http.StatusPartialContent:
		if err := s.resume(resp); err != nil {
			return err
		}
	case http.StatusNotModified:
		if s.cached.Digest != "" {
			return errNotModified
		}
		return s.statusError(resp)
	case http.StatusRequestedRangeNotSatisfiable:
		s.validator, s.immutable = "", false // start over
		return s.statusError(resp)
	default:
		return s.statusError(resp)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("the content encoding %q was not asked for: %w", e, errdefs.ErrFailedPrecondition)
	}
	s.prog.setTotal(s.total)
	if s.announced == nil || s.total < 0 {
		return nil
	}
	return s.announced(s.total)
}

// begin takes a whole body.
func (s *stream) begin(resp *http.Response) {
	if s.off > 0 {
		s.off, s.void = 0, true
		s.prog.set(0)
	}
	s.total = resp.ContentLength
	s.current = sourceOf(resp.Header)
	s.validator = s.current.validator()
	s.mediaType = resp.Header.Get("Content-Type")
}

// resume makes sure that a range continues what was read (RFC 9110, 14.4).
func (s *stream) resume(resp *http.Response) error {
	header := resp.Header.Get("Content-Range")
	from, total, err := parseContentRange(header)
	if err != nil || s.off == 0 || from != s.off || s.total >= 0 && total >= 0 && total != s.total {
		s.validator, s.immutable = "", false // what comes next starts over
		return &badRange{fmt.Sprintf("the content range %q does not continue at byte %d of %d", header, s.off, s.total)}
	}
	if s.total < 0 {
		s.total = total
	}
	return nil
}
