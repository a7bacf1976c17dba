package images

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// profiled pulls "x", which is mapped to the URL with the profile.
func profiled(t *testing.T, s *Store, u string, p Profile) (Image, error) {
	t.Helper()
	text, err := json.Marshal(Translation{
		Rules:      []Rule{{Name: "x", URL: u, Transport: "p"}},
		Transports: map[string]Profile{"p": p},
	})
	if err != nil {
		t.Fatal(err)
	}
	translate(t, s, "x.yaml", string(text))
	return s.Pull(context.Background(), "x", nil)
}

func TestRedirectLimits(t *testing.T) {
	body := testImage(1, 100)
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		if n == 0 {
			_, _ = w.Write(body)
			return
		}
		http.Redirect(w, r, fmt.Sprintf("/%d", n-1), http.StatusFound)
	})
	try := func(redirects int, limit *int, ok bool) {
		s := testStore(t)
		_, err := profiled(t, s, fmt.Sprintf("%s/%d", srv.URL, redirects), Profile{MaxRedirects: limit})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "redirect not followed: more than") {
			t.Errorf("%d redirects: %v", redirects, err)
		}
	}
	for n := range 11 {
		try(n, &n, true)
		try(n+1, &n, false)
	}
	try(9, nil, true)
	try(10, nil, false)
}

func TestRedirectLoopAndScheme(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ftp" {
			http.Redirect(w, r, "ftp://example.com/x", http.StatusFound)
			return
		}
		http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
	})
	s := testStore(t)
	for _, path := range []string{"/loop", "/ftp"} {
		if _, err := profiled(t, s, srv.URL+path, Profile{}); err == nil || !strings.Contains(err.Error(), "redirect not followed") {
			t.Errorf("%s: %v", path, err)
		}
	}
	wantEmpty(t, s)
}

// authority makes certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func sign(t *testing.T, a *authority, template *x509.Certificate) (certPEM, keyPEM string, made authority) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE", der), pemOf("EC PRIVATE KEY", keyDER), authority{cert, key}
}

func newAuthority(t *testing.T) (string, *authority) {
	t.Helper()
	text, _, a := sign(t, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return text, &a
}

// serveTLS starts a server with a certificate for the host names.
func serveTLS(t *testing.T, a *authority, template *x509.Certificate, h http.Handler, clients *x509.CertPool) *httptest.Server {
	t.Helper()
	certPEM, keyPEM, _ := sign(t, a, template)
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(discard{}, "", 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if clients != nil {
		srv.TLS.ClientAuth, srv.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func localhost() *x509.Certificate {
	return &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
}

func TestTLS(t *testing.T) {
	caPEM, ca := newAuthority(t)
	otherPEM, _ := newAuthority(t)
	trust := func(text string) *TLSProfile { return &TLSProfile{Certificates: []TLSCertificate{{Cert: text}}} }
	f := &files{}
	f.set("/x", testImage(1, 5000))
	named := &x509.Certificate{DNSNames: []string{"images.example"}}
	expired := localhost()
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	for _, c := range []struct {
		what   string
		server *x509.Certificate
		tls    *TLSProfile
		want   string // "" is success
	}{
		{"trusted", localhost(), trust(caPEM), ""},
		{"trusted among others", localhost(), trust(otherPEM + caPEM), ""},
		{"unknown authority", localhost(), nil, "unknown authority"},
		{"other authority", localhost(), trust(otherPEM), "unknown authority"},
		{"expired", expired, trust(caPEM), "expired"},
		{"wrong host", named, trust(caPEM), "127.0.0.1"},
		{"server name", named, &TLSProfile{Certificates: []TLSCertificate{{Cert: caPEM}}, ServerName: "images.example"}, ""},
		{"insecure", expired, &TLSProfile{Insecure: true}, ""},
		{"no PEM", localhost(), trust("nonsense"), "no CERTIFICATE block"},
		{"bad certificate", localhost(), trust(pemOf("CERTIFICATE", []byte("x"))), "transport tls certificate 1: cert"},
	} {
		t.Run(c.what, func(t *testing.T) {
			srv := serveTLS(t, ca, c.server, f, nil)
			s := testStore(t)
			_, err := profiled(t, s, srv.URL+"/x", Profile{TLS: c.tls})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
			if err != nil {
				wantEmpty(t, s)
				if strings.Contains(err.Error(), "tried") {
					t.Errorf("repeated: %v", err)
				}
			}
		})
	}
}

func TestClientCertificate(t *testing.T) {
	caPEM, ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	f := &files{}
	f.set("/x", testImage(1, 5000))
	srv := serveTLS(t, ca, localhost(), f, pool)
	client := &x509.Certificate{Subject: pkix.Name{CommonName: "node"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	certPEM, keyPEM, made := sign(t, ca, client)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(made.key)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey, _ := sign(t, ca, &x509.Certificate{})
	for _, c := range []struct{ what, cert, key, want, warn string }{
		{"SEC 1", certPEM, keyPEM, "", ""},
		{"PKCS 8", certPEM, pemOf("PRIVATE KEY", pkcs8), "", ""},
		{"authority in the same text", caPEM + certPEM, keyPEM, "", ""},
		{"without key", certPEM, "", "certificate required", "ignored"},
		{"other key", certPEM, otherKey, "private key does not match", ""},
		{"broken key", certPEM, "secret", "key for", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			var w warnings
			s := testStore(t, func(o *Options) { o.Warn = w.add })
			_, err := profiled(t, s, srv.URL+"/x", Profile{TLS: &TLSProfile{Certificates: []TLSCertificate{{Cert: caPEM}, {Cert: c.cert, Key: c.key}}}})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the key is in the error: %v", err)
			}
			if (c.warn == "") != (w.text() == "") || !strings.Contains(w.text(), c.warn) {
				t.Errorf("warned: %s", w.text())
			}
		})
	}
}

func TestProxy(t *testing.T) {
	body := testImage(3, 100)
	asked := make(chan string, 1)
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String() + " " + r.Header.Get("Proxy-Authorization")
		_, _ = w.Write(body)
	})
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("me", "secret")
	s := testStore(t)
	if _, err := profiled(t, s, "http://images.invalid/x", Profile{Proxy: u.String()}); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "http://images.invalid/x Basic bWU6c2VjcmV0" {
		t.Errorf("the proxy was asked for %s", got)
	}
	_, err = profiled(t, s, "http://images.invalid/x", Profile{Proxy: "me:secret@host:3128"})
	if err == nil || !strings.Contains(err.Error(), `transport "p": transport proxy`) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestProfileTimeout(t *testing.T) {
	srv := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := testStore(t)
	_, err := profiled(t, s, srv.URL+"/x", Profile{TimeoutMilliseconds: 20})
	if err == nil || !strings.Contains(err.Error(), "timeout of 20ms is over") {
		t.Errorf("%v", err)
	}
	wantEmpty(t, s)
}

func TestCredentials(t *testing.T) {
	caPEM, ca := newAuthority(t)
	got := make(chan string, 2)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusUnauthorized)
	})
	secure := serveTLS(t, ca, localhost(), h, nil)
	plain := serve(t, h)
	withUser := strings.Replace(secure.URL, "https://", "https://me:secret@", 1)
	for _, c := range []struct {
		what, url string
		auth      *Auth
		want      string
	}{
		{"basic", secure.URL, &Auth{Username: "u", Password: "secret"}, "Basic dTpzZWNyZXQ="},
		{"encoded", secure.URL, &Auth{Auth: "dTpzZWNyZXQ="}, "Basic dTpzZWNyZXQ="},
		{"not base64", secure.URL, &Auth{Auth: "%"}, ""},
		{"bearer", secure.URL, &Auth{RegistryToken: "secret", Username: "u"}, "Bearer secret"},
		{"none", secure.URL, nil, ""},
		{"in the URL", withUser, &Auth{RegistryToken: "other"}, "Basic bWU6c2VjcmV0"},
		{"plain", plain.URL, &Auth{RegistryToken: "secret"}, ""},
	} {
		s := testStore(t)
		translate(t, s, "x.yaml", fmt.Sprintf("translations: [{name: x, url: '%s/x?token=secret'}]\ntransports: {'': {tls: {certificates: [{cert: %q}]}}}", c.url, caPEM))
		_, err := s.Pull(context.Background(), "x", c.auth)
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "/x: the server says 401 Unauthorized") {
			t.Errorf("%s: %v", c.what, err)
		}
		if sent := <-got; sent != c.want {
			t.Errorf("%s: sent %q instead of %q", c.what, sent, c.want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://me:secret@h.example:8443/a/b?sig=1#f": "https://h.example:8443/a/b",
		"http://h/x?":         "http://h/x",
		"http://me:sec%ret@h": "(a URL that does not parse)",
		"://":                 "(a URL that does not parse)",
	} {
		if got := RedactURL(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
