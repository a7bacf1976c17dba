package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// snapshots copies the store at each step of a change, as a crash would leave it.
type snapshots struct {
	t    *testing.T
	src  string
	dirs []string
	at   []string
}

func (c *snapshots) take(step string) {
	dst := filepath.Join(c.t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", c.src, dst).CombinedOutput(); err != nil {
		c.t.Errorf("copy: %v: %s", err, out)
	}
	c.dirs, c.at = append(c.dirs, dst), append(c.at, step)
}

// check opens every copy. The store must be readable, hold one of the allowed
// lists of names with intact data, and be able to finish the work.
func (c *snapshots) check(allowed []string, finish func(*Store)) {
	for i, dir := range c.dirs {
		c.t.Run(fmt.Sprintf("%d %s", i, c.at[i]), func(t *testing.T) {
			s := testStore(t, func(o *Options) { o.Dir = dir })
			if left := parts(t, s); left != nil {
				t.Errorf("left after opening: %v", left)
			}
			got := names(t, s)
			ok := false
			for _, a := range allowed {
				ok = ok || a == got
			}
			if !ok {
				t.Errorf("names %q, allowed %q", got, allowed)
			}
			verifyData(t, s)
			finish(s)
			verifyData(t, s)
		})
	}
}

// verifyData hashes every listed image, and after a GC nothing unlisted is there.
func verifyData(t *testing.T, s *Store) {
	t.Helper()
	all, err := s.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range all {
		body, err := os.ReadFile(img.Path)
		if err != nil || hexSum(body) != img.Digest {
			t.Errorf("%v: damaged, %v", img.Names, err)
		}
	}
	if err := s.GC(context.Background()); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(s.dataDir); len(entries) != len(all) {
		t.Errorf("%d images, data: %v", len(all), entries)
	}
}

func TestCrash(t *testing.T) {
	f := &files{}
	url := serve(t, f.ServeHTTP).URL
	old, other, fresh := testImage(1, 30_000), testImage(2, 30_000), testImage(3, 40_000)
	f.set("/other", other)
	prepare := func(t *testing.T, ref string) (*Store, *snapshots) {
		f.set("/x", old)
		s := testStore(t)
		translateAll(t, s, url)
		mustPull(t, s, "other")
		mustPull(t, s, "x")
		mustPull(t, s, ref)
		f.set("/x", fresh)
		c := &snapshots{t: t, src: s.opts.Dir}
		s.onStep = c.take
		return s, c
	}
	pull := func(ref string) func(*Store) {
		return func(s *Store) {
			translateAll(t, s, url)
			if img := mustPull(t, s, ref); img.Digest != hexSum(fresh) {
				t.Errorf("%+v", img)
			}
			if strings.Count(names(t, s), "x:latest") != 1 {
				t.Errorf("names: %s", names(t, s))
			}
		}
	}
	remove := func(s *Store) {
		if err := s.Remove(context.Background(), "x"); err != nil {
			t.Error(err)
		}
		if got := names(t, s); got != "other:latest" {
			t.Errorf("left: %s", got)
		}
	}
	// Both names go together, though not at one moment.
	remove2 := func(s *Store) {
		for _, name := range []string{"x", "x:2"} {
			if err := s.Remove(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
		if got := names(t, s); got != "other:latest" {
			t.Errorf("left: %s", got)
		}
	}
	relink := func(s *Store) { // a pull by digest of what is stored moves no data
		mustPull(t, s, "x@sha256:"+hexSum(other))
	}
	const both = "other:latest x:latest"
	seen := map[string]bool{}
	for _, c := range []struct {
		what, before string
		change       func(*Store)
		allowed      []string
		steps        int
	}{
		{"update", "x", pull("x"), []string{both}, 9},
		{"update with another spelling", "x", pull("virtlet.cloud/x"), []string{both, "other:latest virtlet.cloud/x:latest"}, 10},
		{"remove", "x", remove, []string{both, "other:latest"}, 3},
		{"remove with another name", "x:2", remove2, []string{"other:latest x:2 x:latest", "other:latest x:2", both, "other:latest"}, 4},
		{"another name for stored data", "x", relink, []string{both}, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, snaps := prepare(t, c.before)
			c.change(s)
			s.onStep = nil
			if len(snaps.at) < c.steps {
				t.Errorf("only these steps: %v", snaps.at)
			}
			for _, step := range snaps.at {
				seen[step] = true
			}
			snaps.check(c.allowed, c.change)
		})
	}
	for _, step := range []string{
		"part created", "part written", "part synced", "before data", "data renamed", "before link", "link made", "link renamed",
		"alias removed", "link removed", "before data removed", "data removed",
	} {
		if !seen[step] {
			t.Errorf("no crash at %q", step)
		}
	}
}
