package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// fetcher gets one URL into one part file.
type fetcher struct {
	client  *http.Client
	url     *url.URL
	auth    *Auth
	cached  source // what is in the store already; may be zero
	maxSize int64  // bytes, 0 is no limit
	stall   time.Duration
	backoff time.Duration
	retries int
	prog    *progress

	part      *part
	validator string // of the content that the part began with: an ETag or a date
	current   source // what the server says about the content
	total     int64  // bytes, -1 when not announced
	sniffed   bool
}

// worthwhile is by how many bytes an attempt must get further than all before
// for its failure to count as the first.
const worthwhile = 1 << 20

// errNotModified says that the cached source is still what the server has.
var errNotModified = errors.New("not modified")

// fetch runs attempts until the part is complete. An attempt goes on where the
// last one broke off if the server says that the content is the same.
func (f *fetcher) fetch(ctx context.Context) error {
	f.total = -1
	failures, farthest := 0, int64(0)
	for {
		err := f.attempt(ctx)
		if err == nil || !retryable(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f.part.size() >= farthest+worthwhile {
			failures, farthest = 0, f.part.size()
		}
		if failures++; failures > f.retries {
			return gaveUp(err, failures)
		}
		if err := pause(ctx, f.delay(failures, err)); err != nil {
			return err
		}
	}
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

// attempt makes one request and appends its body to the part.
func (f *fetcher) attempt(ctx context.Context) error {
	if f.part.size() > 0 && f.validator == "" {
		if err := f.restart(); err != nil {
			return err
		}
	}
	ctx, w := newWatchdog(ctx, f.stall)
	defer w.close()
	resp, err := f.request(ctx, w)
	if err != nil {
		return w.explain(ctx, f.requestError(err))
	}
	defer resp.Body.Close()
	if err := f.accept(resp); err != nil {
		return err
	}
	return w.explain(ctx, f.copy(&watched{resp.Body, w, f.prog}))
}

func (f *fetcher) request(ctx context.Context, w *watchdog) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "qemulet")
	f.auth.apply(req)
	if off := f.part.size(); off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", off))
		req.Header.Set("If-Range", f.validator)
	} else {
		f.cached.condition(req.Header)
	}
	w.arm()
	defer w.disarm()
	return f.client.Do(req)
}

// accept looks at the response's head and prepares the part for its body.
func (f *fetcher) accept(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if err := f.restart(); err != nil {
			return err
		}
		f.total = resp.ContentLength
		f.current = sourceOf(resp.Header)
		f.validator = f.current.validator()
	case http.StatusPartialContent:
		if err := f.acceptRange(resp); err != nil {
			return err
		}
	case http.StatusNotModified:
		if f.cached != (source{}) {
			return errNotModified
		}
		return f.statusError(resp)
	case http.StatusRequestedRangeNotSatisfiable:
		f.validator = "" // start over
		return f.statusError(resp)
	default:
		return f.statusError(resp)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("the content encoding %q was not asked for: %w", e, errdefs.ErrFailedPrecondition)
	}
	return f.makeRoom()
}

// restart empties the part.
func (f *fetcher) restart() error {
	if f.part.size() == 0 {
		return nil
	}
	f.validator, f.sniffed, f.total = "", false, -1
	f.prog.set(0)
	return f.part.reset()
}

// acceptRange makes sure that the range continues the part (RFC 9110, 14.4).
func (f *fetcher) acceptRange(resp *http.Response) error {
	header := resp.Header.Get("Content-Range")
	from, total, err := parseContentRange(header)
	off := f.part.size()
	if err != nil || off == 0 || from != off || f.total >= 0 && total >= 0 && total != f.total {
		f.validator = "" // what comes next starts over
		return &badRange{fmt.Sprintf("the content range %q does not continue at byte %d of %d", header, off, f.total)}
	}
	if f.total < 0 {
		f.total = total
	}
	return nil
}

// badRange is a broken answer to a request for the rest of a file.
type badRange struct{ text string }

func (e *badRange) Error() string { return e.text }

// parseContentRange parses "bytes 5-9/10"; the total is -1 for "*".
func parseContentRange(s string) (from, total int64, _ error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, length, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, fmt.Errorf("content range %q", s)
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	to, err := strconv.ParseInt(last, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	total = -1
	if length != "*" {
		if total, err = strconv.ParseInt(length, 10, 64); err != nil {
			return 0, 0, err
		}
	}
	if from < 0 || to < from || total >= 0 && to >= total {
		return 0, 0, fmt.Errorf("content range %q", s)
	}
	return from, total, nil
}

// makeRoom checks the announced length against the limit and the disk.
func (f *fetcher) makeRoom() error {
	f.prog.setTotal(f.total)
	if f.total < 0 {
		return nil
	}
	if err := f.checkSize(f.total); err != nil {
		return err
	}
	if f.total == f.part.size() {
		return nil
	}
	return f.part.reserve(f.total)
}

func (f *fetcher) checkSize(n int64) error {
	if f.maxSize > 0 && n > f.maxSize {
		return fmt.Errorf("file of %d bytes or more is over the limit of %d bytes: %w", n, f.maxSize, errdefs.ErrResourceExhausted)
	}
	return nil
}

// copy appends the body to the part, and refuses early what is no image.
func (f *fetcher) copy(body io.Reader) error {
	var verdict error
	err := f.part.readFrom(body, func() error {
		verdict = f.look(f.part.size() >= sniffLen)
		return verdict
	})
	switch {
	case verdict != nil:
		return verdict
	case err != nil:
		return f.truncated(err)
	case f.total >= 0 && f.part.size() < f.total:
		return f.truncated(io.ErrUnexpectedEOF)
	case f.part.size() == 0:
		return refused(errors.New("the file is empty"))
	}
	return f.look(true)
}

// look checks what has arrived: its length, and its first bytes once there are
// enough of them or all of them.
func (f *fetcher) look(final bool) error {
	size := f.part.size()
	if f.total >= 0 && size > f.total {
		return fmt.Errorf("%d bytes were announced, more came: %w", f.total, errdefs.ErrDataLoss)
	}
	if err := f.checkSize(size); err != nil || f.sniffed || size < sniffEarly && !final {
		return err
	}
	f.sniffed = final
	head, err := f.part.head(sniffLen)
	if err != nil {
		return err
	}
	if what := looksLike(head); what != "" {
		return refused(fmt.Errorf("it looks like %s", what))
	}
	return nil
}

func (f *fetcher) truncated(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if f.total < 0 {
		return &readError{fmt.Errorf("the connection ended after %d bytes: %w", f.part.size(), err)}
	}
	return &readError{fmt.Errorf("the connection ended after %d of %d bytes: %w", f.part.size(), f.total, err)}
}
