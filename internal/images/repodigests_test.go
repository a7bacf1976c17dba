package images

import (
	"context"
	"slices"
	"testing"
)

// repoDigests fails unless the image of a name has these, in a store opened anew too.
func repoDigests(t *testing.T, s *Store, ref string, want ...string) Image {
	t.Helper()
	again, err := Open(Options{Dir: s.opts.Dir, Check: testCheck})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	var img Image
	for _, store := range []*Store{again, s} {
		if img, err = store.Get(context.Background(), ref); err != nil || !slices.Equal(img.RepoDigests, want) {
			t.Errorf("%s: %v, want %v: %v", ref, img.RepoDigests, want, err)
		}
		for _, d := range append(slices.Clone(want), "x@sha256:"+img.Digest) {
			if got, err := store.Get(context.Background(), d); err != nil || got.ID != img.ID {
				t.Errorf("%s is not found by %s: %v", ref, d, err)
			}
		}
	}
	return img
}

// What a tag was pulled as can be pulled on the next node, from the same server.
func TestRepoDigestsOfRegistry(t *testing.T) {
	disk := testImage(1, 100_000)
	layers := func(r *testRegistry, noise string) []descriptor {
		return []descriptor{r.blob(layerType, gzipOf(t, tarOf(t, tarEntry{"disk/x.img", disk}, tarEntry{"noise", []byte(noise)})))}
	}
	r, other := newTestRegistry(t), newTestRegistry(t)
	v1 := r.image("vm:v1", typeOCIConfig, layers(r, "one")...).Digest
	v2 := r.image("vm:v2", typeOCIConfig, layers(r, "two")...).Digest
	elsewhere := other.image("vm:v1", typeOCIConfig, layers(other, "three")...).Digest
	url, otherURL := r.plainURL()+"/vm", other.plainURL()+"/vm"

	s := testStore(t)
	rule(t, s, url)
	img := mustPull(t, s, "x:v1")
	if !slices.Equal(img.RepoDigests, []string{"x@" + v1}) {
		t.Errorf("of the pull: %v", img.RepoDigests)
	}
	repoDigests(t, s, "x:v1", "x@"+v1)
	mustPull(t, s, "x:v1") // nothing has changed
	repoDigests(t, s, "x:v1", "x@"+v1)
	mustPull(t, s, "virtlet.cloud/x:v2")
	want := []string{"virtlet.cloud/x@" + v2, "x@" + v1}
	repoDigests(t, s, "x:v1", want...)
	writeTranslation(t, s, "other.yaml", "translations: [{name: other, url: '"+otherURL+"'}]")
	mustPull(t, s, "other:v1")
	if same := repoDigests(t, s, "other:v1", append([]string{"other@" + elsewhere}, want...)...); same.ID != img.ID {
		t.Errorf("ids: %s, then %s", img.ID, same.ID)
	}

	next := testStore(t)
	rule(t, next, url)
	for _, d := range []string{"x@" + v1, "virtlet.cloud/x@" + v2} {
		if got := mustPull(t, next, d); got.ID != img.ID {
			t.Errorf("%s: another image", d)
		}
	}

	if err := s.Remove(t.Context(), "other@"+elsewhere); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

// A tag that moves takes the digest of its new content.
func TestRepoDigestsOfMovedTag(t *testing.T) {
	one, two := testImage(1, 100_000), testImage(2, 100_000)
	f := &files{}
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	f.set("/x", gzipOf(t, one))
	mustPull(t, s, "x")
	repoDigests(t, s, "x", "x@sha256:"+hexSum(gzipOf(t, one)))
	f.set("/x", gzipOf(t, two))
	mustPull(t, s, "x")
	repoDigests(t, s, "x", "x@sha256:"+hexSum(gzipOf(t, two)))
	f.set("/x", two) // no longer compressed
	mustPull(t, s, "x")
	repoDigests(t, s, "x", "x@sha256:"+hexSum(two))
	f.set("/x", gzipOf(t, one))
	mustPull(t, s, "x")
	// Without its cache the store still knows the disk's digest.
	s.mu.Lock()
	clear(s.sources)
	s.sourcesChanged()
	s.mu.Unlock()
	repoDigests(t, s, "x", "x@sha256:"+hexSum(one))
}
