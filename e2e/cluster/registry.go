package cluster

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qemulet/qemulet/e2e/node"
)

// registry answers for every repository there is, with busybox or with pause, and what critest expects of some names: a user, a web server.
// Repositories have different images, because critest counts them. (OCI distribution specification, pull.)
type registry struct {
	tb      testing.TB
	mu      sync.Mutex
	content map[string]registryFile // by digest
	digests map[string]string       // of the manifests, by repository
}

type registryFile struct {
	mediaType string
	data      []byte
}

// registryUsers are those of the images whose repositories end so.
var registryUsers = map[string]string{
	"user-uid": "1002", "user-username": "www-data", "user-uid-group": "1003:users", "user-username-group": "www-data:100", "predefined-group": "1000",
}

// ServeRegistry has containerd pull every image from a registry on the node's loopback, until the test ends.
func (c *Cluster) ServeRegistry(tb testing.TB) {
	tb.Helper()
	server := httptest.NewUnstartedServer(&registry{tb: tb, content: map[string]registryFile{}, digests: map[string]string{}})
	server.Listener.Close()
	must(tb, node.InNamespace(c.netns(), func() (err error) {
		server.Listener, err = net.Listen("tcp", "127.0.0.1:5000")
		return err
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	tb.Cleanup(server.Close)
	must(tb, os.MkdirAll(c.Path("containerd/certs.d/_default"), 0o755))
	hosts := "server = \"http://127.0.0.1:5000\"\n[host.\"http://127.0.0.1:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
	must(tb, os.WriteFile(c.Path("containerd/certs.d/_default/hosts.toml"), []byte(hosts), 0o644))
}

var registryPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/(.+)$`)

// ServeHTTP answers as a registry does.
func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	m := registryPath.FindStringSubmatch(req.URL.Path)
	if m == nil || strings.Contains(req.URL.Path, "non-existing") {
		http.NotFound(w, req)
		return
	}
	r.mu.Lock()
	digest := m[3]
	if !strings.HasPrefix(digest, "sha256:") {
		digest = r.manifest(m[1])
	}
	file, found := r.content[digest]
	r.mu.Unlock()
	if !found {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", file.mediaType)
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(file.data))
}

// manifest makes the image of a repository when it is asked for first.
func (r *registry) manifest(repository string) string {
	if digest := r.digests[repository]; digest != "" {
		return digest
	}
	image := busyboxContainer(r.tb)
	if strings.Contains(repository, "pause") {
		image = pauseContainer(r.tb)
	}
	more := map[string]any{"Labels": map[string]string{"repository": repository}}
	for end, user := range registryUsers {
		if strings.HasSuffix(repository, end) {
			more["User"] = user
		}
	}
	if strings.Contains(repository, "nginx") {
		port := "80"
		if strings.Contains(repository, "hostnet") {
			port = "12003"
		}
		image.entrypoint, image.cmd = []string{"httpd", "-f", "-p", port, "-h", "/www"}, nil
	}
	layer, config, err := image.finish(more)
	if err != nil {
		r.tb.Error(err)
		return ""
	}
	const oci = "application/vnd.oci.image."
	data, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
		"config": r.put(oci+"config.v1+json", config), "layers": []any{r.put(oci+"layer.v1.tar", layer)},
	})
	if err != nil {
		r.tb.Error(err)
	}
	r.digests[repository] = r.put(oci+"manifest.v1+json", data)["digest"].(string)
	return r.digests[repository]
}

// put adds a file and returns its descriptor.
func (r *registry) put(mediaType string, data []byte) map[string]any {
	digest := "sha256:" + hexDigest(data)
	r.content[digest] = registryFile{mediaType, data}
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(data)}
}
