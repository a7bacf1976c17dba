package images

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// testRegistry serves manifests and blobs as the OCI distribution specification
// says, and notes what it is asked for.
type testRegistry struct {
	t testing.TB

	mu        sync.Mutex
	blobs     map[string][]byte // by digest
	manifests map[string][]byte // by "repository:tag" and by "repository@digest"
	types     map[string]string // of manifests
	asked     []string
	cut       int // each blob is broken off after so many bytes once

	realm   string // of tokens; "" asks for none
	basic   bool   // asks for a password instead
	user    string // "user:password" for tokens or the registry itself
	refresh string // an identity token that is as good
	cdn     string // where blobs are instead
	seen    []string
}

const registryToken = "the-registry-token"

func newTestRegistry(t testing.TB) *testRegistry {
	return &testRegistry{t: t, blobs: map[string][]byte{}, manifests: map[string][]byte{}, types: map[string]string{}}
}

func (r *testRegistry) blob(mediaType string, b []byte, annotations ...string) descriptor {
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hexSum(b), Size: int64(len(b))}
	if len(annotations) > 0 {
		d.Annotations = map[string]string{titleAnnotation: annotations[0]}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[d.Digest] = b
	return d
}

// push stores a manifest or index under a name like "repo:tag".
func (r *testRegistry) push(name, mediaType string, m map[string]any) descriptor {
	r.t.Helper()
	m["schemaVersion"], m["mediaType"] = 2, mediaType
	text, err := json.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.pushText(name, mediaType, text)
}

func (r *testRegistry) pushText(name, mediaType string, text []byte) descriptor {
	digest := "sha256:" + hexSum(text)
	repo, _, _ := strings.Cut(name, ":")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range []string{name, repo + "@" + digest} {
		r.manifests[key], r.types[key] = text, mediaType
	}
	return descriptor{MediaType: mediaType, Digest: digest, Size: int64(len(text))}
}

// image pushes a container image or an artifact.
func (r *testRegistry) image(name, configType string, layers ...descriptor) descriptor {
	config := r.blob(configType, []byte("{}"))
	return r.push(name, typeOCIManifest, map[string]any{"config": config, "layers": layers})
}

func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, req.URL.Path)
	r.seen = append(r.seen, req.Header.Get("Authorization"))
	r.mu.Unlock()
	switch {
	case req.URL.Path == "/token":
		r.serveToken(w, req)
	case !r.allowed(req):
		challenge := fmt.Sprintf("Bearer realm=%q,service=\"test\",scope=\"repository:x:pull\"", r.realm)
		if r.basic {
			challenge = `Basic realm="test"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
	case strings.Contains(req.URL.Path, "/manifests/"):
		r.serveManifest(w, req)
	default:
		r.serveBlob(w, req)
	}
}

func (r *testRegistry) allowed(req *http.Request) bool {
	switch got := req.Header.Get("Authorization"); {
	case r.basic:
		return got == "Basic "+base64.StdEncoding.EncodeToString([]byte(r.user))
	case r.realm != "":
		return got == "Bearer "+registryToken
	default:
		return true
	}
}

func (r *testRegistry) serveToken(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	_ = req.ParseForm()
	byIdentity := r.refresh != "" && req.PostForm.Get("refresh_token") == r.refresh && req.PostForm.Get("grant_type") == "refresh_token"
	if r.user != user+":"+password && !byIdentity && r.user != "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_, _ = fmt.Fprintf(w, `{"token": %q, "access_token": %q}`, registryToken, registryToken)
}

func (r *testRegistry) serveManifest(w http.ResponseWriter, req *http.Request) {
	repo, ref, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/manifests/")
	key := repo + ":" + ref
	if strings.HasPrefix(ref, "sha256:") {
		key = repo + "@" + ref
	}
	r.mu.Lock()
	text, ok := r.manifests[key]
	kind := r.types[key]
	r.mu.Unlock()
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text)
}

func (r *testRegistry) serveBlob(w http.ResponseWriter, req *http.Request) {
	_, digest, _ := strings.Cut(req.URL.Path, "/blobs/")
	if r.cdn != "" {
		http.Redirect(w, req, r.cdn+req.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	r.mu.Lock()
	b, ok := r.blobs[digest]
	cut := r.cut
	r.cut = 0
	r.mu.Unlock()
	if !ok {
		http.NotFound(w, req)
		return
	}
	if cut > 0 {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b[:cut])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b))
}

// count tells how often paths with the text were asked for.
func (r *testRegistry) count(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, path := range r.asked {
		if strings.Contains(path, text) {
			n++
		}
	}
	return n
}

// plainURL starts the registry without TLS and returns what is before a reference.
func (r *testRegistry) plainURL() string {
	u, err := url.Parse(serve(r.t, r.ServeHTTP).URL)
	if err != nil {
		r.t.Fatal(err)
	}
	return "oci+http://" + u.Host
}
