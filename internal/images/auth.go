package images

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// apply puts the credentials on a request over TLS, unless its URL has some of
// its own. Go's client drops them on a redirect to another host.
func (a *Auth) apply(req *http.Request) {
	if a == nil || req.URL.Scheme != "https" || req.URL.User != nil {
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
