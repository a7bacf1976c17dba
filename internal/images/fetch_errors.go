package images

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
)

// StatusError is an answer other than 200 OK.
type StatusError struct {
	// URL is what answered, behind redirects, without credentials and query.
	URL string
	// Code is the HTTP status.
	Code int

	redirected bool
	retryAfter time.Duration
}

func (s *stream) statusError(resp *http.Response) *StatusError {
	e := &StatusError{URL: redact(resp.Request.URL), Code: resp.StatusCode}
	e.redirected = e.URL != redact(s.url)
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
		e.retryAfter = time.Duration(min(n, int(maxBackoff/time.Second))) * time.Second
	}
	return e
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server says %d %s", e.Code, http.StatusText(e.Code))
	if e.redirected {
		text += " at " + e.URL
	}
	return text
}

// Unwrap returns the class of the status.
func (e *StatusError) Unwrap() error {
	switch {
	case e.Code == http.StatusNotFound, e.Code == http.StatusGone:
		return errdefs.ErrNotFound
	case e.Code == http.StatusUnauthorized, e.Code == http.StatusProxyAuthRequired:
		return errdefs.ErrUnauthenticated
	case e.Code == http.StatusForbidden:
		return errdefs.ErrPermissionDenied
	case e.temporary():
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrUnknown
}

func (e *StatusError) temporary() bool {
	return e.Code >= 500 || e.Code == http.StatusRequestTimeout || e.Code == http.StatusTooManyRequests
}

// requestError takes the URL out of the http client's error, which may hold
// secrets. It is named only behind a redirect: the caller knows the first one.
func (s *stream) requestError(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return &readError{err}
	}
	if at := RedactURL(u.URL); at != redact(s.url) {
		return &readError{fmt.Errorf("at %s: %w", at, u.Err)}
	}
	return &readError{u.Err}
}

// retryable tells whether another attempt may help: the network and the server
// may recover, our disk and a wrong answer do not.
func retryable(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.temporary() || status.Code == http.StatusRequestedRangeNotSatisfiable
	}
	var broken *badRange
	if errors.As(err, &broken) || errors.Is(err, ErrStalled) {
		return true
	}
	var source *readError
	return errors.As(err, &source) && !permanent(source.err)
}

// permanent picks the network errors that stay.
func permanent(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var alert tls.AlertError
	var invalid x509.CertificateInvalidError
	return errors.Is(err, errRedirects) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &dns) && dns.IsNotFound ||
		errors.As(err, &cert) || errors.As(err, &header) || errors.As(err, &alert) || errors.As(err, &invalid)
}

// watchdog cancels an attempt that waits too long for the next byte.
type watchdog struct {
	ctx    context.Context
	limit  time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// newWatchdog returns a context for the attempt. The watchdog is not armed.
func newWatchdog(ctx context.Context, limit time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{ctx: ctx, limit: limit, cancel: cancel}
	w.timer = time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("no byte came for %v: %w: %w", limit, ErrStalled, errdefs.ErrUnavailable))
	})
	w.timer.Stop()
	return ctx, w
}

func (w *watchdog) arm()    { w.timer.Reset(w.limit) }
func (w *watchdog) disarm() { w.timer.Stop() }

func (w *watchdog) close() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain replaces the error of a cancelled attempt by the reason.
func (w *watchdog) explain(err error) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return err
}

// watched is a reader whose every read the watchdog watches over, but not what
// happens between them.
type watched struct {
	io.ReadCloser
	w    *watchdog
	prog *progress
}

func (r *watched) Read(b []byte) (int, error) {
	r.w.arm()
	defer r.w.disarm()
	n, err := r.ReadCloser.Read(b)
	r.prog.add(n)
	return n, err
}
