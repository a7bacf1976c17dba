package images

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const layerType = "application/vnd.oci.image.layer.v1.tar+gzip"

// rule maps the name x to a URL.
func rule(t testing.TB, s *Store, url string) {
	t.Helper()
	translate(t, s, "x.yaml", "translations: [{name: x, url: '"+url+"'}]")
}

func TestRegistry(t *testing.T) {
	disk, small := testImage(1, 2<<20), testImage(2, 5000)
	r := newTestRegistry(t)
	url := r.plainURL()
	inTar := tarOf(t, tarEntry{"disk/", nil}, tarEntry{"disk/fedora.qcow2", disk}, tarEntry{"etc/passwd", []byte("x")})
	dot := tarOf(t, tarEntry{"./disk/disk.img", compressed(t, disk, "xz", "-0")})
	noise := tarOf(t, tarEntry{"etc/os-release", []byte("x")}, tarEntry{"disk/sub/deep", small}, tarEntry{"disks/x", small})
	for _, c := range []struct {
		what   string
		config string
		layers []descriptor
		url    string
	}{
		{"containerDisk, gzip", typeOCIConfig, []descriptor{r.blob(layerType, gzipOf(t, inTar))}, ""},
		{"containerDisk, zstd", typeDockerConfig, []descriptor{r.blob("application/vnd.oci.image.layer.v1.tar+zstd", compressed(t, inTar, "zstd"))}, ""},
		{"containerDisk, plain", typeOCIConfig, []descriptor{r.blob("application/vnd.oci.image.layer.v1.tar", inTar)}, ""},
		{"compressed in a compressed layer", typeOCIConfig, []descriptor{r.blob(layerType, gzipOf(t, dot))}, ""},
		{"disk below another layer", typeOCIConfig, []descriptor{r.blob(layerType, gzipOf(t, inTar)), r.blob(layerType, gzipOf(t, noise))}, ""},
		{"the upper of two", typeOCIConfig, []descriptor{r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/old", small}))), r.blob(layerType, gzipOf(t, inTar))}, ""},
		{"artifact", "application/vnd.oci.empty.v1+json", []descriptor{r.blob("application/vnd.oci.image.layer.v1.tar", disk, "disk.qcow2")}, ""},
		{"artifact without title", "application/x", []descriptor{r.blob("application/x-qemu-disk", disk)}, ""},
		{"artifact, compressed", "application/x", []descriptor{r.blob("application/octet-stream", gzipOf(t, disk), "disk")}, ""},
		{"artifact, one titled", "application/x", []descriptor{r.blob("text/plain", []byte("x")), r.blob("application/x", disk, "disk")}, ""},
		{"artifact, chosen", "application/x", []descriptor{r.blob("text/plain", []byte("x"), "README.md"), r.blob("application/x", disk, "a disk")}, "#a%20disk"},
	} {
		r.image("lib/vm:v1", c.config, c.layers...)
		s := testStore(t)
		rule(t, s, url+"/lib/vm:v1"+c.url)
		img, err := s.Pull(context.Background(), "x", nil)
		if err != nil || img.Digest != hexSum(disk) || length(img) != int64(len(disk)) {
			t.Errorf("%s: %+v, %v", c.what, img, err)
			continue
		}
		before := r.count("/blobs/")
		mustPull(t, s, "x")
		mustPull(t, s, "virtlet.cloud/x:other")
		if after := r.count("/blobs/"); after != before {
			t.Errorf("%s: fetched again", c.what)
		}
		if left := parts(t, s); left != nil {
			t.Errorf("%s: left %v", c.what, left)
		}
	}
}

func TestRegistryReferences(t *testing.T) {
	disk := testImage(1, 100_000)
	r := newTestRegistry(t)
	url := r.plainURL()
	layer := r.blob("application/x", disk)
	m := r.image("vm:v1", "application/x", layer)
	r.image("vm:latest", "application/x", layer)
	for _, c := range []struct{ url, name string }{
		{"/vm", "x"}, {"/vm", "x:v1"}, {"/vm:v1", "x:v7"}, {"/vm:v1", "x"},
		{"/vm@" + m.Digest, "x"}, {"/vm:v2@" + m.Digest, "x"}, {"/vm", "x@" + m.Digest},
		{"/vm:v1", "x@" + m.Digest}, {"/vm:v1", "x@" + layer.Digest},
	} {
		s := testStore(t)
		rule(t, s, url+c.url)
		img, err := s.Pull(context.Background(), c.name, nil)
		if err != nil || img.Digest != hexSum(disk) {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if _, err := s.Get(context.Background(), c.name); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		_, digest, byDigest := strings.Cut(c.name, "@")
		if byDigest && len(img.RepoDigests) != 1 || byDigest && img.RepoDigests[0] != "x@"+digest {
			t.Errorf("%+v: %v", c, img.RepoDigests)
		}
	}
	s := testStore(t)
	rule(t, s, url+"/vm:v1")
	if _, err := s.Pull(context.Background(), "x@sha256:"+hexA, nil); !errors.Is(err, ErrDigestMismatch) || !strings.Contains(err.Error(), m.Digest+" instead of sha256:"+hexA) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"/VM:v1", "/vm:", "/", "", "/vm@sha512:" + hexA + hexA, "/vm@sha256:abc", "/../x", "/a b"} {
		rule(t, s, url+bad)
		if _, err := s.Pull(context.Background(), "x", nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	wantEmpty(t, s)
}

func TestIndex(t *testing.T) {
	disk := testImage(1, 100_000)
	r := newTestRegistry(t)
	url := r.plainURL()
	good := r.image("vm:amd64", typeOCIConfig, r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/x", disk}))))
	other := r.image("vm:arm64", typeOCIConfig, r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/x", testImage(2, 5000)}))))
	on := func(d descriptor, os, arch string) descriptor {
		d.Platform = &platform{os, arch}
		return d
	}
	for _, kind := range []string{typeOCIIndex, typeDockerIndex} {
		index := r.push("vm:all", kind, map[string]any{"manifests": []descriptor{
			on(other, "unknown", "unknown"), on(other, "linux", "arm64"), on(other, "windows", "amd64"), on(good, "linux", "amd64"),
		}})
		for _, c := range []struct{ arch, name, want string }{
			{"amd64", "x", hexSum(disk)}, {"arm64", "x", hexSum(testImage(2, 5000))},
			{"amd64", "x@" + index.Digest, hexSum(disk)}, {"amd64", "x@" + good.Digest, hexSum(disk)},
		} {
			s := testStore(t, func(o *Options) { o.Arch = c.arch })
			rule(t, s, url+"/vm:all")
			if img, err := s.Pull(context.Background(), c.name, nil); err != nil || img.Digest != c.want {
				t.Errorf("%+v: %v", c, err)
			}
		}
	}
	s := testStore(t, func(o *Options) { o.Arch = "s390x" })
	rule(t, s, url+"/vm:all")
	if _, err := s.Pull(context.Background(), "x", nil); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "no image for linux/s390x (there are: unknown/unknown, linux/arm64, windows/amd64, linux/amd64)") {
		t.Errorf("%v", err)
	}
	r.push("vm:nested", typeOCIIndex, map[string]any{"manifests": []descriptor{r.push("vm:inner", typeOCIIndex, map[string]any{})}})
	rule(t, s, url+"/vm:nested")
	if _, err := s.Pull(context.Background(), "x", nil); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "an index inside of an index") {
		t.Errorf("%v", err)
	}
	r.push("vm:alone", typeOCIIndex, map[string]any{"manifests": []descriptor{good}})
	rule(t, s, url+"/vm:alone")
	mustPull(t, s, "x")
}

func TestBadArtifacts(t *testing.T) {
	disk := testImage(1, 50_000)
	r := newTestRegistry(t)
	url := r.plainURL()
	tarred := gzipOf(t, tarOf(t, tarEntry{"disk/x", disk}))
	layer := r.blob(layerType, tarred)
	lying := r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/x", testImage(3, 50_000)})))
	r.blobs[lying.Digest] = append(append([]byte{}, r.blobs[lying.Digest][:lying.Size-1]...), 7)
	swapped := r.blob(layerType, append([]byte("swapped "), disk...))
	r.blobs[swapped.Digest] = disk
	other := r.blob("application/x", testImage(4, 40_000))
	r.blobs[other.Digest] = testImage(5, 40_000)
	noDisk := r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"etc/x", disk})))
	whiteout := r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/.wh.x", nil})))
	opaque := r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/.wh..wh..opq", nil})))
	manifest := r.image("vm:good", typeOCIConfig, layer)
	for _, c := range []struct {
		what string
		push func(name string)
		want string
	}{
		{"byte in a layer", func(n string) { r.image(n, typeOCIConfig, lying) }, "image digest mismatch"},
		{"layer's length", func(n string) { r.image(n, typeOCIConfig, swapped) }, "50000 bytes instead of 50008"},
		{"layer's digest", func(n string) { r.image(n, "application/x", other) }, "image digest mismatch: sha256:" + hexSum(testImage(5, 40_000)) + " instead of " + other.Digest},
		{"no disk", func(n string) { r.image(n, typeOCIConfig, noDisk, noDisk) }, "no usable disk image in any of 2 layers: no file in /disk"},
		{"whiteout", func(n string) { r.image(n, typeOCIConfig, layer, whiteout) }, "no file in /disk"},
		{"opaque", func(n string) { r.image(n, typeOCIConfig, layer, opaque) }, "no file in /disk"},
		{"two disks", func(n string) {
			r.image(n, typeOCIConfig, r.blob(layerType, tarOf(t, tarEntry{"disk/a", disk}, tarEntry{"disk/b", disk})))
		}, `two files in /disk, "a" and "b"`},
		{"tar cut", func(n string) {
			r.image(n, typeOCIConfig, r.blob(layerType, tarOf(t, tarEntry{"disk/a", disk})[:20_000]))
		}, "the tar archive is damaged"},
		{"html in the disk", func(n string) {
			r.image(n, typeOCIConfig, r.blob(layerType, tarOf(t, tarEntry{"disk/a", []byte("<html>")})))
		}, "an HTML page"},
		{"no layers", func(n string) { r.image(n, typeOCIConfig) }, "the manifest has no layers"},
		{"several titles", func(n string) {
			r.image(n, "application/x", r.blob("application/x", disk, "a"), r.blob("application/x", disk, "b"))
		}, "the artifact has 2 layers, choose one by adding #title to the url (there are: a, b)"},
		{"missing layer", func(n string) {
			r.image(n, typeOCIConfig, descriptor{MediaType: layerType, Digest: "sha256:" + hexA, Size: 5})
		}, "404 Not Found"},
		{"missing manifest", func(string) {}, "manifest new: the server says 404 Not Found"},
		{"html", func(n string) { r.pushText(n, "text/html", []byte("<html>log in</html>")) }, "not a usable manifest: it looks like an HTML page"},
		{"docker schema 1", func(n string) { r.push(n, "application/vnd.docker.distribution.manifest.v1+json", map[string]any{}) }, "media type"},
		{"two natures", func(n string) {
			r.push(n, typeOCIManifest, map[string]any{"layers": []descriptor{layer}, "manifests": []descriptor{manifest}})
		}, "both manifests and layers"},
		{"bad digest", func(n string) { r.image(n, typeOCIConfig, descriptor{Digest: "sha256:../../x", Size: 5}) }, "(accepted: sha256)"},
		{"huge", func(n string) { r.pushText(n, typeOCIManifest, []byte(strings.Repeat(" ", maxManifest+1))) }, "larger than 4194304 bytes"},
	} {
		delete(r.manifests, "vm:new")
		c.push("vm:new")
		s := testStore(t)
		rule(t, s, url+"/vm:new")
		_, err := s.Pull(context.Background(), "x", nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		wantEmpty(t, s)
	}
	// What is asked for by digest is compared.
	r.manifests["vm@"+manifest.Digest] = []byte(`{"mediaType":"` + typeOCIManifest + `"}`)
	s := testStore(t)
	rule(t, s, url+"/vm@"+manifest.Digest)
	if _, err := s.Pull(context.Background(), "x", nil); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("%v", err)
	}
}

func TestRegistryResumes(t *testing.T) {
	disk := testImage(1, 3<<20)
	r := newTestRegistry(t)
	url := r.plainURL()
	r.image("vm:latest", typeOCIConfig, r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/x", disk}))))
	r.cut = 2 << 20
	s := testStore(t)
	rule(t, s, url+"/vm")
	if img := mustPull(t, s, "x"); img.Digest != hexSum(disk) {
		t.Errorf("%+v", img)
	}
	if n := r.count("/blobs/"); n != 2 {
		t.Errorf("%d requests for the layer", n)
	}
}

func TestProtocolOCI(t *testing.T) {
	s := testStore(t, func(o *Options) { o.Protocol = "oci" })
	res, err := s.Explain(context.Background(), "virtlet.cloud/registry.example:5000/lib/vm:v1")
	if err != nil || res.Err != nil || res.URL != "oci://registry.example:5000/lib/vm" {
		t.Errorf("%+v, %v", res, err)
	}
	u, err := url.Parse(res.URL)
	if err != nil {
		t.Fatal(err)
	}
	a, err := parseArtifact(u, Name{Tag: "v1"})
	if want := (artifact{host: "registry.example:5000", repository: "lib/vm", ref: "v1"}); err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	for _, host := range []string{"docker.io", "index.docker.io"} {
		a, err := parseArtifact(&url.URL{Scheme: "oci", Host: host, Path: "/fedora"}, Name{Tag: "40"})
		if want := (artifact{host: dockerHub, repository: "library/fedora", ref: "40"}); err != nil || a != want {
			t.Errorf("%+v, %v", a, err)
		}
	}
}

// secureRegistry serves over TLS, and returns the text of a translation file
// that trusts it and maps x to an image in it.
func secureRegistry(t *testing.T, r *testRegistry) (base, text string) {
	caPEM, ca := newAuthority(t)
	base = serveTLS(t, ca, localhost(), r, nil).URL
	return base, fmt.Sprintf("translations: [{name: x, url: '%s/vm:latest'}]\ntransports: {'': {tls: {certificates: [{cert: %q}]}}}",
		strings.Replace(base, "https://", "oci://", 1), caPEM)
}

func TestRegistryCredentials(t *testing.T) {
	disk := testImage(1, 50_000)
	const user = "me:secret"
	encoded := base64.StdEncoding.EncodeToString([]byte(user))
	r := newTestRegistry(t)
	r.image("vm:latest", "application/x", r.blob("application/x", disk))
	base, text := secureRegistry(t, r)
	host := strings.TrimPrefix(base, "https://")
	for _, c := range []struct {
		what  string
		token bool // or else a password
		user  string
		auth  *Auth
		want  string // "" is success
	}{
		{"anonymous token", true, "", nil, ""},
		{"token for a password", true, user, &Auth{Username: "me", Password: "secret"}, ""},
		{"token for auth", true, user, &Auth{Auth: encoded}, ""},
		{"token for an identity", true, user, &Auth{IdentityToken: "identity"}, ""},
		{"registry token", true, user, &Auth{RegistryToken: registryToken}, ""},
		{"password", false, user, &Auth{Username: "me", Password: "secret"}, ""},
		{"for this server", false, user, &Auth{Username: "me", Password: "secret", ServerAddress: host}, ""},
		{"for this URL", false, user, &Auth{Username: "me", Password: "secret", ServerAddress: base + "/v1/"}, ""},
		{"for the name's host", false, user, &Auth{Username: "me", Password: "secret", ServerAddress: "virtlet.cloud"}, ""},
		{"for another server", false, user, &Auth{Username: "me", Password: "secret", ServerAddress: "other.example"}, "asks for a user name"},
		{"for another port", true, user, &Auth{Username: "me", Password: "secret", ServerAddress: "127.0.0.1:1"}, `401 Unauthorized at ` + base + `/token (the credentials are for "127.0.0.1:1" and were not sent)`},
		{"wrong password", true, user, &Auth{Username: "me", Password: "terces"}, "401 Unauthorized at " + base + "/token"},
		{"wrong password, basic", false, user, &Auth{Username: "me", Password: "terces"}, "401 Unauthorized"},
		{"none", true, user, nil, "401 Unauthorized"},
		{"none, basic", false, user, nil, "asks for a user name and a password"},
	} {
		r.realm, r.basic, r.user, r.refresh, r.seen = "", !c.token, c.user, "identity", nil
		if c.token {
			r.realm = base + "/token"
		}
		s := testStore(t)
		translate(t, s, "x.yaml", text)
		_, err := s.Pull(context.Background(), "x", c.auth)
		if c.want == "" && err != nil || c.want != "" && (!errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "terces") || strings.Contains(err.Error(), encoded)) {
			t.Errorf("%s: a secret is in the error: %v", c.what, err)
		}
		if c.auth != nil && strings.Contains(c.auth.ServerAddress, "other") && strings.Contains(strings.Join(r.seen, " "), encoded) {
			t.Errorf("%s: sent all the same: %v", c.what, r.seen)
		}
	}
}

// TestCredentialsStay: neither a redirect nor an unencrypted registry gets any.
func TestCredentialsStay(t *testing.T) {
	disk := testImage(1, 50_000)
	got := make(chan string, 10)
	caPEM, ca := newAuthority(t)
	cdn := serveTLS(t, ca, localhost(), http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		got <- req.Header.Get("Authorization")
		_, _ = w.Write(disk)
	}), nil)
	r := newTestRegistry(t)
	r.image("vm:latest", "application/x", r.blob("application/x", disk))
	r.basic, r.user, r.cdn = true, "me:secret", cdn.URL
	front := serveTLS(t, ca, localhost(), r, nil)
	auth := &Auth{Username: "me", Password: "secret"}
	for _, target := range []string{
		strings.Replace(front.URL, "https://", "oci://", 1) + "/vm",
		strings.Replace(front.URL, "https://", "oci://me:secret@", 1) + "/vm",
		front.URL + "/v2/vm/blobs/sha256:" + hexSum(disk),
		strings.Replace(front.URL, "https://", "https://me:secret@", 1) + "/v2/vm/blobs/sha256:" + hexSum(disk),
	} {
		s := testStore(t)
		translate(t, s, "x.yaml", fmt.Sprintf("translations: [{name: x, url: '%s'}]\ntransports: {'': {tls: {certificates: [{cert: %q}]}}}", target, caPEM))
		if _, err := s.Pull(context.Background(), "x", auth); err != nil {
			t.Errorf("%s: %v", RedactURL(target), err)
			continue
		}
		if sent := <-got; sent != "" {
			t.Errorf("%s: another port was sent %q", RedactURL(target), sent)
		}
	}
	plain := newTestRegistry(t)
	plain.basic, plain.user = true, "me:secret"
	s := testStore(t)
	rule(t, s, plain.plainURL()+"/vm")
	if _, err := s.Pull(context.Background(), "x", auth); !errdefs.IsUnauthorized(err) {
		t.Errorf("%v", err)
	}
	if sent := strings.Join(plain.seen, ""); sent != "" {
		t.Errorf("sent without TLS: %q", sent)
	}
	// An identity token is no use to a web server.
	rule(t, s, "https://127.0.0.1:1/x")
	if _, err := s.Pull(context.Background(), "x", &Auth{IdentityToken: "secret"}); !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"mediaType":"`+typeOCIManifest+`","config":{"mediaType":"`+typeOCIConfig+`"},"layers":[{"digest":"sha256:`+hexA+`","size":5,"annotations":{"`+titleAnnotation+`":"x"}}]}`), "", "x", "amd64")
	f.Add([]byte(`{"manifests":[{"digest":"sha256:`+hexA+`","platform":{"os":"linux","architecture":"amd64"}},{"digest":"sha256:`+hexA+`"}]}`), typeOCIIndex, "", "amd64")
	f.Fuzz(func(t *testing.T, text []byte, contentType, title, arch string) {
		m, err := parseManifest(text, contentType)
		if err != nil {
			return
		}
		var chosen []descriptor
		if d, err := m.forArch(arch); err == nil {
			chosen = append(chosen, d)
		}
		layers, _ := m.diskLayers(title)
		for _, d := range append(chosen, layers...) {
			if !isHexDigest(d.hex()) || d.Size < 0 {
				t.Fatalf("%+v", d)
			}
		}
	})
}

func FuzzArtifact(f *testing.F) {
	f.Add("oci://h:5000/a/b:c@sha256:"+hexA+"#t", "latest")
	f.Fuzz(func(t *testing.T, raw, tag string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		a, err := parseArtifact(u, Name{Tag: tag})
		if err != nil || tag == "" {
			return
		}
		if strings.Contains(a.repository, "..") || strings.ContainsAny(a.repository, "?#\x00 ") {
			t.Fatalf("%+v", a)
		}
	})
}
