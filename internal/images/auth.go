package images

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
)

// Auth holds the credentials of a pull, as CRI's AuthConfig has them. They are
// sent over TLS only, and never to the target of a redirect to another server.
type Auth struct {
	// Username and Password are sent as HTTP basic authentication, or exchanged
	// for a registry's token.
	Username, Password string
	// Auth is base64 of "username:password", used when Username is empty.
	Auth string
	// IdentityToken is exchanged for a registry's token.
	IdentityToken string
	// RegistryToken is sent as a bearer token; it wins over the others.
	RegistryToken string
	// ServerAddress is the only server that the credentials are for: a host with
	// or without port, or a URL of one. Empty means the one that the image's
	// name is translated to, and so does the host of Prefix.
	ServerAddress string
}

// apply puts the credentials on a request over TLS, unless its URL has some of
// its own.
func (a *Auth) apply(req *http.Request) {
	if !a.isFor(req.URL) || req.URL.Scheme != "https" || req.URL.User != nil {
		return
	}
	if a.RegistryToken != "" {
		req.Header.Set("Authorization", "Bearer "+a.RegistryToken)
		return
	}
	if user, password := a.basic(); user != "" {
		req.SetBasicAuth(user, password)
	}
}

// usable refuses credentials that a web server has no use for.
func (a *Auth) usable() error {
	if a == nil || a.IdentityToken == "" || a.RegistryToken != "" {
		return nil
	}
	if user, _ := a.basic(); user != "" {
		return nil
	}
	return fmt.Errorf("an identity token is for registries only (accepted: user name and password, registry token): %w", errdefs.ErrInvalidArgument)
}

// isFor tells whether the credentials may be sent to the URL's server.
func (a *Auth) isFor(u *url.URL) bool {
	if a == nil {
		return false
	}
	host := a.ServerAddress
	if _, rest, ok := strings.Cut(host, "://"); ok {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	switch {
	case host == "", host == strings.TrimSuffix(Prefix, "/"):
		return true
	case isDockerHub(host):
		return isDockerHub(u.Host)
	}
	return strings.EqualFold(withoutDefaultPort(host), withoutDefaultPort(u.Host))
}

// withoutDefaultPort takes off the port of https: credentials go nowhere else.
func withoutDefaultPort(host string) string { return strings.TrimSuffix(host, ":443") }

func (a *Auth) basic() (user, password string) {
	if a.Username != "" || a.Auth == "" {
		return a.Username, a.Password
	}
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return "", ""
	}
	user, password, _ = strings.Cut(string(text), ":")
	return user, password
}
