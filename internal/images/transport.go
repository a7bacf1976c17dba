package images

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Profile says how to fetch. The zero value is a plain request.
type Profile struct {
	// TimeoutMilliseconds bounds the whole download, repetitions included;
	// zero and less is no bound.
	TimeoutMilliseconds int `json:"timeout,omitempty"`
	// MaxRedirects is how many redirects are followed; nil stands for 9, which
	// is what Go's http client follows.
	MaxRedirects *int `json:"maxRedirects,omitempty"`
	// Proxy is the proxy's URL; empty means what HTTP_PROXY, HTTPS_PROXY and
	// NO_PROXY of the daemon say.
	Proxy string `json:"proxy,omitempty"`
	// TLS is nil for the system's certificates.
	TLS *TLSProfile `json:"tls,omitempty"`
	// RequireSHA256SUMS demands a file of that name beside the image which has
	// the image's checksum, as sha256sum writes it.
	RequireSHA256SUMS bool `json:"requireSHA256SUMS,omitempty"`
}

const (
	dialTimeout         = 30 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	keepAlive           = 30 * time.Second
	defaultMaxRedirects = 9
)

// errRedirects marks a redirect that was not followed.
var errRedirects = errors.New("redirect not followed")

func (p Profile) timeout() time.Duration {
	return time.Duration(p.TimeoutMilliseconds) * time.Millisecond
}

// client returns a client of its own for one download. The caller ends it with
// CloseIdleConnections.
func (p Profile) client(warn func(error)) (*http.Client, error) {
	proxy, err := p.proxy()
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}).DialContext,
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		// The length and the ranges of what is stored are meant, not those of
		// some compressed form of it.
		DisableCompression: true,
		// One large body per connection: HTTP/2's windows only slow it down.
		Protocols:      new(http.Protocols),
		ReadBufferSize: 64 << 10,
	}
	t.Protocols.SetHTTP1(true)
	if p.TLS != nil {
		if t.TLSClientConfig, err = p.TLS.config(warn); err != nil {
			return nil, err
		}
	}
	return &http.Client{Transport: t, CheckRedirect: p.checkRedirect}, nil
}

func (p Profile) proxy() (func(*http.Request) (*url.URL, error), error) {
	if p.Proxy == "" {
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(p.Proxy)
	if err != nil || u.Host == "" {
		// The value is not quoted: it may hold a password.
		return nil, errors.New("transport proxy: not a URL (accepted: http://host:port, https://host:port, socks5://host:port)")
	}
	return http.ProxyURL(u), nil
}

// checkRedirect implements http.Client.CheckRedirect; via are the requests made
// so far.
func (p Profile) checkRedirect(req *http.Request, via []*http.Request) error {
	limit := defaultMaxRedirects
	if p.MaxRedirects != nil {
		limit = max(*p.MaxRedirects, 0)
	}
	if s := req.URL.Scheme; s != "https" && s != "http" {
		return fmt.Errorf("%w: to %s://, which is not supported", errRedirects, s)
	}
	if len(via) > limit {
		return fmt.Errorf("%w: more than %d", errRedirects, limit)
	}
	// Go's client would go on sending it to other ports and to subdomains.
	if first := via[0].URL; req.URL.Scheme != first.Scheme || !strings.EqualFold(req.URL.Host, first.Host) {
		req.Header.Del("Authorization")
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		req.URL.User = nil
	}
	return nil
}

// RedactURL returns a URL for people's eyes: without user, password, query and
// fragment, any of which may be a secret.
func RedactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(a URL that does not parse)"
	}
	return redact(u)
}

func redact(u *url.URL) string {
	if u.Opaque != "" {
		return "(a URL without //)"
	}
	clean := *u
	clean.User, clean.RawQuery, clean.Fragment, clean.RawFragment = nil, "", "", ""
	clean.ForceQuery = false
	return clean.String()
}
