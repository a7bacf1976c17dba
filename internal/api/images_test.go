package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/qemulet/qemulet/internal/images"
)

// fakeStore answers with what a test puts into it.
type fakeStore struct {
	images    []images.Image
	downloads []images.Download
	pruned    []images.PruneOptions
	err       error
}

func (f *fakeStore) Details(_ context.Context, filter string) ([]images.Image, error) {
	if filter != "" && filter != "cirros" {
		return nil, f.err
	}
	return f.images, f.err
}

func (f *fakeStore) Prune(_ context.Context, o images.PruneOptions) ([]images.Freed, error) {
	f.pruned = append(f.pruned, o)
	return []images.Freed{{Digest: "d1", Bytes: 4096}}, f.err
}

func (f *fakeStore) Explain(ctx context.Context, ref string) (images.Explanation, error) {
	return images.Explain(ctx, ref, images.Options{})
}

func (f *fakeStore) Downloads() []images.Download { return f.downloads }

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	code, body := get(t, url)
	if err := json.Unmarshal([]byte(body), into); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
}

func post(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, res)
}

func TestImages(t *testing.T) {
	pulled := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := &fakeStore{images: []images.Image{
		{ID: "sha256:i", Digest: "d1", Names: []string{"cirros:latest"}, Format: "raw", Size: 5, VirtualSize: 10, Sources: []string{"https://host/c"}, PulledAt: pulled, Path: "/p"},
		{ID: "sha256:j", Digest: "d2", Damaged: errors.New("no qcow2")},
	}}
	url := serveStore(t, s)
	var got []Image
	getJSON(t, url+ImagesPath, &got)
	want := []Image{
		{ID: "sha256:i", Digest: "d1", Names: []string{"cirros:latest"}, RepoDigests: []string{}, Format: "raw", Size: 5, VirtualSize: 10,
			Sources: []string{"https://host/c"}, PulledAt: pulled, Path: "/p", UsedBy: []string{"default/web"}},
		{ID: "sha256:j", Digest: "d2", Names: []string{}, RepoDigests: []string{}, Sources: []string{}, UsedBy: []string{}, Damaged: "no qcow2"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, body := get(t, url+ImagesPath+"?name=none"); body != "[]\n" {
		t.Errorf("got %q", body)
	}
	s.err = errors.New("the disk is gone")
	if code, body := get(t, url+ImagesPath); code != http.StatusInternalServerError || body != "the disk is gone\n" {
		t.Errorf("%d %q", code, body)
	}
}

func TestPrune(t *testing.T) {
	s := &fakeStore{}
	url := serveStore(t, s)
	for query, want := range map[string]images.PruneOptions{
		"": {}, "?unused=true": {Unused: true}, "?dry-run=true&unused=false": {DryRun: true},
	} {
		code, body := post(t, url+PrunePath+query)
		if code != http.StatusOK || body != `[{"digest":"d1","names":[],"bytes":4096}]`+"\n" || s.pruned[len(s.pruned)-1] != want {
			t.Errorf("%s: %d %s %+v", query, code, body, s.pruned)
		}
	}
	if code, body := post(t, url+PrunePath+"?dry-run=maybe"); code != http.StatusBadRequest || !strings.Contains(body, "dry-run=maybe") {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := get(t, url+PrunePath); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
	s.err = errdefs.ErrNotFound
	if code, _ := post(t, url+PrunePath); code != http.StatusNotFound {
		t.Errorf("%d", code)
	}
}

func TestResolve(t *testing.T) {
	url := serveStore(t, &fakeStore{})
	var got Resolution
	getJSON(t, url+ResolvePath+"?name=virtlet.cloud/host/disk.img", &got)
	if got.Name != "virtlet.cloud/host/disk.img:latest" || got.URL != "https://host/disk.img" || got.Source != "" || len(got.Settings) == 0 || got.Error != "" {
		t.Errorf("%+v", got)
	}
	getJSON(t, url+ResolvePath+"?name=nothing", &got)
	if !strings.Contains(got.Error, "no image translation rule") {
		t.Errorf("%+v", got)
	}
	if code, body := get(t, url+ResolvePath+"?name=No"); code != http.StatusBadRequest || !strings.Contains(body, `"No"`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestMetrics(t *testing.T) {
	if code, body := get(t, serveStore(t, &fakeStore{})+"/metrics"); code != http.StatusOK || body != "metrics\n" {
		t.Errorf("%d %s", code, body)
	}
}
