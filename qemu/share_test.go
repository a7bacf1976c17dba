package qemu

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestShareTags(t *testing.T) {
	long := "/" + strings.Repeat("x", 40)
	got := ShareTags([]string{"/var/data", "/srv/data", "/a b", "/", long, "/.hidden", "/31/" + strings.Repeat("y", 31), "/é", "/mnt/vdb1", "/mnt/sr0", "/mnt/vdbs"})
	want := []string{"data", "data-", "a_b-", "_-", strings.Repeat("x", 22) + "-", "_hidden-", strings.Repeat("y", 31), "_-", "vdb1-", "sr0-", "vdbs"}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%d: %q, want %q...", i, got[i], want[i])
		}
	}
	// The others do not change a tag.
	if alone := ShareTags([]string{"/x/data", "/srv/data"}); alone[1] != got[1] {
		t.Errorf("%q among others is %q", alone[1], got[1])
	}
}

// Whatever the paths are, the tags are ones that Build takes.
func TestShareTagsAreTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		element := rapid.OneOf(rapid.SampledFrom([]string{"data", "data-ccdcc6c3", "/", ".."}), rapid.String())
		paths := rapid.SliceOf(element).Draw(t, "paths")
		tags := ShareTags(paths)
		for i, tag := range tags {
			if len(tag) > maxTag || !validTag.MatchString(tag) || slices.Contains(tags[:i], tag) {
				t.Fatalf("%q of %q is no tag, or is there twice: %q", tag, paths[i], tags)
			}
		}
	})
}

func FuzzShareTags(f *testing.F) {
	f.Add("/a/data", "/b/data")
	f.Add("", "/")
	f.Fuzz(func(t *testing.T, a, b string) {
		tags := ShareTags([]string{a, b})
		for _, tag := range tags {
			if len(tag) > maxTag || !validTag.MatchString(tag) {
				t.Errorf("%q, %q: %q", a, b, tags)
			}
		}
		if tags[0] == tags[1] {
			t.Errorf("%q, %q: %q twice", a, b, tags[0])
		}
	})
}
