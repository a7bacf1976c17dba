package imagecli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/api"
	"github.com/qemulet/qemulet/internal/images"
	"github.com/qemulet/qemulet/internal/podrun"
)

// fakeDaemon stands for answers that a real daemon is hard to bring to; the
// rest is tested with the real one.
type fakeDaemon struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	images  []images.Image
	users   map[string][]string
	freed   []images.Freed
	pruned  images.PruneOptions
	pulled  []*runtimeapi.PullImageRequest
	removed []string
}

func (f *fakeDaemon) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{}, nil
}

func (f *fakeDaemon) PullImage(_ context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	f.pulled = append(f.pulled, req)
	if name := req.Image.Image; strings.Contains(name, "bad") {
		return nil, status.Error(codes.Unavailable, "pull image "+name+": 503: unavailable")
	}
	return &runtimeapi.PullImageResponse{ImageRef: "sha256:id"}, nil
}

func (f *fakeDaemon) RemoveImage(_ context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	f.removed = append(f.removed, req.Image.Image)
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (f *fakeDaemon) Details(_ context.Context, filter string) (found []images.Image, _ error) {
	for _, img := range f.images {
		if filter == "" || filter == img.ID || strings.Contains(strings.Join(img.Names, " "), filter) {
			found = append(found, img)
		}
	}
	return found, nil
}

func (f *fakeDaemon) Prune(_ context.Context, o images.PruneOptions) ([]images.Freed, error) {
	f.pruned = o
	if f.freed == nil && o.Unused && o.DryRun {
		return nil, errors.New("the disk is gone")
	}
	return f.freed, nil
}

func (f *fakeDaemon) Explain(ctx context.Context, ref string) (images.Explanation, error) {
	return images.Explain(ctx, ref, images.Options{})
}

func (f *fakeDaemon) Downloads() []images.Download { return nil }

func (f *fakeDaemon) start(t *testing.T) *podrun.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	g := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(g, f)
	runtimeapi.RegisterImageServiceServer(g, f)
	cri, local := listen("cri.sock"), listen("api.sock")
	go func() { _ = g.Serve(cri) }()
	t.Cleanup(g.Stop)
	h := &http.Server{Handler: api.Handler(api.Options{
		Images: f, ImageUsers: func() map[string][]string { return f.users }, Metrics: http.NotFoundHandler(), Sessions: http.NotFoundHandler(),
	})}
	go func() { _ = h.Serve(local) }()
	t.Cleanup(func() { _ = h.Close() })
	c, err := podrun.Connect(t.Context(), cri.Addr().String(), local.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const (
	idA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func twoImages() *fakeDaemon {
	pulled := time.Now().Add(-3 * time.Hour)
	return &fakeDaemon{
		images: []images.Image{
			{ID: idA, Digest: "d1", Names: []string{"cirros:latest", "cirros:v1"}, Format: "qcow2", Size: 5 << 20, VirtualSize: 1 << 30, PulledAt: pulled, Sources: []string{"https://host/c"}},
			{ID: idB, Digest: "d2", RepoDigests: []string{"pinned@sha256:d2"}, Size: 1 << 20, Damaged: errors.New("no qcow2 header"), PulledAt: pulled},
		},
		users: map[string][]string{"d1": {"default/a", "default/b"}},
	}
}

// wants fails unless the text has all of the words.
func wants(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing:\n%s", w, text)
		}
	}
}

func TestList(t *testing.T) {
	c := twoImages().start(t)
	list := func(o ListOptions, names ...string) (string, error) {
		var out bytes.Buffer
		err := List(t.Context(), c, names, o, &out)
		return out.String(), err
	}
	want := `NAME            ID             SIZE      VIRTUAL   PULLED   USED BY
cirros:latest   aaaaaaaaaaaa   5.0 MiB   1.0 GiB   3h ago   default/a, default/b
cirros:v1       aaaaaaaaaaaa   5.0 MiB   1.0 GiB   3h ago   default/a, default/b
pinned:<none>   bbbbbbbbbbbb   1.0 MiB   damaged   3h ago   -
`
	if got, err := list(ListOptions{}); err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, _ := list(ListOptions{Quiet: true}, "cirros:latest", "cirros:v1", idB); got != idA+"\n"+idB+"\n" {
		t.Errorf("quiet: %s", got)
	}
	if got, _ := list(ListOptions{Digests: true}); !strings.Contains(got, "sha256:d2") {
		t.Errorf("digests: %s", got)
	}
	got, _ := list(ListOptions{Format: JSON})
	var decoded []api.Image
	if err := json.Unmarshal([]byte(got), &decoded); err != nil || len(decoded) != 2 || decoded[1].Damaged == "" {
		t.Errorf("%v: %s", err, got)
	}
	for _, name := range []string{"none", ""} {
		if _, err := list(ListOptions{}, name); err == nil {
			t.Errorf("%q is found", name)
		}
	}
}

func TestListNothing(t *testing.T) {
	c := (&fakeDaemon{}).start(t)
	var out bytes.Buffer
	if err := List(t.Context(), c, nil, ListOptions{}, &out); err != nil || !strings.Contains(out.String(), "qemulet image pull") {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	if err := List(t.Context(), c, nil, ListOptions{Format: JSON}, &out); err != nil || out.String() != "[]\n" {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestInspect(t *testing.T) {
	c := twoImages().start(t)
	var out bytes.Buffer
	if err := Inspect(t.Context(), c, []string{"cirros:v1", idB}, Text, &out); err != nil {
		t.Fatal(err)
	}
	wants(t, out.String(), idA, "cirros:latest", "5.0 MiB (5242880 bytes)", "1.0 GiB (1073741824 bytes)", "Format:        qcow2", "https://host/c", "default/b", "3h ago",
		"DAMAGED:", "no qcow2 header", "pinned@sha256:d2")
}

func TestPull(t *testing.T) {
	f := &fakeDaemon{}
	c := f.start(t)
	var out, info bytes.Buffer
	err := Pull(t.Context(), c, []string{"a", "bad", "b"}, PullOptions{Username: "joe", Password: "p"}, &out, &info)
	if err == nil || !strings.Contains(err.Error(), "503") || out.String() != "sha256:id\nsha256:id\n" || len(f.pulled) != 3 {
		t.Errorf("%v, %q, %d pulls", err, out.String(), len(f.pulled))
	}
	wants(t, info.String(), "pulled a\n", "pulled b\n")
	if a := f.pulled[0].Auth; a.GetUsername() != "joe" || a.GetPassword() != "p" {
		t.Errorf("credentials %v", a)
	}
	for _, digest := range []string{"sha256:abc", "abc"} {
		if err := Pull(t.Context(), c, []string{"a:v1"}, PullOptions{Digest: digest}, &out, &info); err != nil {
			t.Error(err)
		}
		if last := f.pulled[len(f.pulled)-1]; last.Image.Image != "a:v1@sha256:abc" || last.Auth != nil {
			t.Errorf("pulled %v", last)
		}
	}
	for _, names := range [][]string{{"a", "b"}, {"a@sha256:abc"}} {
		if err := Pull(t.Context(), c, names, PullOptions{Digest: "abc"}, &out, &info); err == nil {
			t.Errorf("%v with a digest beside: accepted", names)
		}
	}
}

func TestReadPassword(t *testing.T) {
	for text, want := range map[string]string{"secret": "secret", "secret\r\nmore": "secret", "": "", "\n": ""} {
		got, err := ReadPassword(strings.NewReader(text))
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestRemove(t *testing.T) {
	f := twoImages()
	c := f.start(t)
	var info bytes.Buffer
	err := Remove(t.Context(), c, []string{"cirros:v1", "none", idB}, false, &info)
	if err == nil {
		t.Fatal("removed")
	}
	wants(t, err.Error(), `"cirros:v1" is used by the VM of default/a, default/b`, "--force", `"none" is not on this machine`)
	if len(f.removed) != 1 || f.removed[0] != idB || info.String() != "removed d2 (no name)\n" {
		t.Errorf("removed %v: %s", f.removed, info.String())
	}
	info.Reset()
	if err := Remove(t.Context(), c, []string{"cirros:v1"}, true, &info); err != nil || f.removed[1] != idA {
		t.Errorf("%v, %v", err, f.removed)
	}
	wants(t, info.String(), "no longer listed", "default/a", "cirros:latest, cirros:v1")
}

func TestGC(t *testing.T) {
	f := &fakeDaemon{}
	c := f.start(t)
	gc := func(o GCOptions) (string, error) {
		var out bytes.Buffer
		err := GC(t.Context(), c, o, &out)
		if err == nil && (f.pruned.Unused != o.All || f.pruned.DryRun != o.DryRun) {
			t.Errorf("%+v became %+v", o, f.pruned)
		}
		return out.String(), err
	}
	for o, words := range map[GCOptions]string{{}: "--all takes", {DryRun: true}: "--all takes", {All: true}: "VMs use all images"} {
		if got, err := gc(o); err != nil || !strings.Contains(got, words) {
			t.Errorf("%+v: %v: %s", o, err, got)
		}
	}
	if _, err := gc(GCOptions{All: true, DryRun: true}); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("got %v", err)
	}
	f.freed = []images.Freed{{Digest: "0123456789abcdef", Bytes: 1 << 20}, {Digest: "d", Names: []string{"a:1", "a:2"}, Bytes: 2 << 20}}
	got, _ := gc(GCOptions{DryRun: true})
	if want := "would free 0123456789ab (no name), 1.0 MiB\nwould free a:1, a:2, 2.0 MiB\nwould free 3.0 MiB in all\n"; got != want {
		t.Errorf("got %s", got)
	}
	got, _ = gc(GCOptions{Format: JSON})
	wants(t, got, `"digest": "0123456789abcdef"`, `"bytes": 1048576`)
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	text := "translations:\n- {name: other, url: https://host/o}\n- {name: cirros, url: 'https://joe:secret@host/c?t=secret', transport: lab}\n" +
		"transports: {lab: {timeout: 1500, maxRedirects: 0, proxy: 'http://joe:secret@proxy:3128', tls: {insecure: true, serverName: images}}}\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	local := Settings(images.Options{TranslationDir: dir})
	var out bytes.Buffer
	if err := Resolve(t.Context(), local, []string{"cirros@sha256:" + strings.Repeat("a", 64), "host/disk"}, Text, &out); err != nil {
		t.Fatal(err)
	}
	wants(t, out.String(), "https://host/c\n", "2 of "+dir+"/a.yaml, name \"cirros\"", "lab", "at most 1.5s", "at most 0 redirects", "http://proxy:3128",
		"NOT checked", "images", "sha256:aaaa", "rule 1 of", "another name", "none matches, so the name is the URL", "https://host/disk", "none is demanded")
	if strings.Contains(out.String(), "secret") {
		t.Errorf("a secret is shown:\n%s", out.String())
	}
	out.Reset()
	err := Resolve(t.Context(), local, []string{"nothing"}, Text, &out)
	if err == nil || !strings.Contains(err.Error(), "nothing:latest cannot be pulled") || !strings.Contains(out.String(), "No match:") {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := Resolve(t.Context(), local, []string{"Bad"}, Text, &out); err == nil {
		t.Error("no name is resolved")
	}
	out.Reset()
	if err := Resolve(t.Context(), Daemon((&fakeDaemon{}).start(t)), []string{"nothing"}, JSON, &out); err != nil {
		t.Fatal(err)
	}
	var got []api.Resolution
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != 1 || got[0].Error == "" {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	text := "prefix: team\ntranslations: [{name: b, url: u}, {name: a, url: u}, {regexp: c, url: u}]\n"
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := Translated(t.Context(), images.Options{TranslationDir: dir}, "virtlet.cloud/")
	if want := "virtlet.cloud/team/a virtlet.cloud/team/b"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	if got := Stored(t.Context(), twoImages().start(t), "cirros:v"); strings.Join(got, " ") != "cirros:v1" {
		t.Errorf("got %v", got)
	}
}

func TestFormat(t *testing.T) {
	f := Text
	if err := f.Set("yaml"); err == nil || !strings.Contains(err.Error(), "text, json") || f != Text {
		t.Errorf("%v, %s", err, f.String())
	}
	if err := f.Set("json"); err != nil || f != JSON {
		t.Errorf("%v, %s", err, f.String())
	}
}
