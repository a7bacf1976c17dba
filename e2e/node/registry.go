package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"
)

// Registry is an OCI registry that asks for a user: as the well-known ones do it names a token service, and the token is
// good for manifests and blobs (OCI distribution specification; docker's token authentication). Its content is fixed before it serves.
type Registry struct {
	// Repository holds all content: "team/vms".
	Repository string
	// User and Password are the only ones that get a token.
	User, Password string
	content        map[string]registryFile // by the path's last element: tag or digest
}

type registryFile struct {
	mediaType string
	data      []byte
}

const registryToken = "e2e-registry-token"

// Image adds an image of these layers, of which each is a tar archive compressed with gzip, and returns the manifest's digest.
func (r *Registry) Image(tb testing.TB, tag string, layers ...[]byte) (digest string) {
	tb.Helper()
	described := []any{}
	for _, l := range layers {
		described = append(described, r.put("application/vnd.oci.image.layer.v1.tar+gzip", l))
	}
	const kind = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": kind, "layers": described,
		"config": r.put("application/vnd.oci.image.config.v1+json", []byte(`{"architecture":"amd64","os":"linux"}`)),
	})
	must(tb, err)
	r.put(kind, manifest)
	r.content[tag] = registryFile{kind, manifest}
	return digestOf(manifest)
}

// put adds a file and returns its descriptor.
func (r *Registry) put(mediaType string, data []byte) map[string]any {
	if r.content == nil {
		r.content = map[string]registryFile{}
	}
	r.content[digestOf(data)] = registryFile{mediaType, data}
	return map[string]any{"mediaType": mediaType, "digest": digestOf(data), "size": len(data)}
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ServeHTTP answers as a registry does.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/token" {
		r.serveToken(w, req)
		return
	}
	if req.Header.Get("Authorization") != "Bearer "+registryToken {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service="e2e",scope="repository:%s:pull"`, req.Host, r.Repository))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	file, found := r.content[path.Base(req.URL.Path)]
	if !found || !strings.HasPrefix(req.URL.Path, "/v2/"+r.Repository+"/") {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", file.mediaType)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(file.data))
}

func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	if user, password, _ := req.BasicAuth(); user != r.User || password != r.Password {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, `{"token":%q}`, registryToken)
}
