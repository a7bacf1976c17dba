package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// put stores an image as Virtlet would have.
func put(t testing.TB, dir, link string, body []byte) string {
	t.Helper()
	hex := hexSum(body)
	for _, d := range []string{dataName, linksName} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, dataName, hex), body, 0o600); err != nil {
		t.Fatal(err)
	}
	if link != "" {
		if err := os.Symlink("../data/"+hex, filepath.Join(dir, linksName, link)); err != nil {
			t.Fatal(err)
		}
	}
	return hex
}

func names(t testing.TB, s *Store) string {
	t.Helper()
	all, err := s.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, img := range all {
		out = append(out, strings.Join(img.Names, "+"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestOldNode(t *testing.T) {
	dir := t.TempDir()
	a := put(t, dir, "cirros", testImage(1, 1000))
	b := put(t, dir, "example.com%images%vm.qcow2", testImage(2, 1000))
	put(t, dir, "", testImage(3, 1000))
	empty := put(t, dir, "empty", nil)
	for link, target := range map[string]string{
		"same": "../data/" + a, "UPPER?case": "../data/" + b, "broken": "../data/" + hexA, "foreign": "/etc/passwd", "odd": "../data/odd",
	} {
		if err := os.Symlink(target, filepath.Join(dir, linksName, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"data/part_123", "data/notes.txt", "links/README"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := testStore(t, func(o *Options) { o.Dir = dir })
	want := "virtlet.cloud/UPPER?case:latest+virtlet.cloud/example.com/images/vm.qcow2:latest virtlet.cloud/cirros:latest+virtlet.cloud/same:latest"
	if got := names(t, s); got != want {
		t.Errorf("got %s", got)
	}
	for _, ref := range []string{
		"cirros", "cirros:latest", "virtlet.cloud/cirros", "virtlet.cloud/cirros:latest", "same", "sha256:" + a, a, "cirros@sha256:" + a,
		"virtlet.cloud/cirros:9@sha256:" + a, ID(a), ID(a)[:20], ID(a)[7:19],
	} {
		img, err := s.Get(context.Background(), ref)
		if err != nil || img.Digest != a || img.VirtualSize != 2000 || img.ID != ID(a) {
			t.Errorf("%s: %+v, %v", ref, img, err)
		}
		list, err := s.List(context.Background(), ref)
		if err != nil || len(list) != 1 || list[0].Digest != a {
			t.Errorf("list %s: %+v, %v", ref, list, err)
		}
	}
	if img, err := s.Get(context.Background(), "UPPER?case"); err != nil || img.Digest != b {
		t.Errorf("a name that is no reference: %v, %v", img, err)
	}
	for _, ref := range []string{
		"cirros:0.5", "other", "empty", "broken", "foreign", "example.com/images/vm.qcow2@sha256:" + a, "sha256:" + hexA, "", "../data/" + a,
		"sha256:", ID(a)[:9], "zz", "sha256:" + empty,
	} {
		if img, err := s.Get(context.Background(), ref); !errdefs.IsNotFound(err) {
			t.Errorf("%q: %+v, %v", ref, img, err)
		}
		if list, err := s.List(context.Background(), ref); ref != "" && (err != nil || len(list) != 0) {
			t.Errorf("list %q: %+v, %v", ref, list, err)
		}
	}
	// Stale parts are removed at opening, strangers' files never.
	if err := s.GC(context.Background()); err != nil {
		t.Fatal(err)
	}
	for f, there := range map[string]bool{"data/part_123": false, "data/notes.txt": true, "links/README": true, "links/foreign": true} {
		if _, err := os.Lstat(filepath.Join(dir, f)); (err == nil) != there {
			t.Errorf("%s: %v", f, err)
		}
	}
	entries, _ := os.ReadDir(s.dataDir)
	if len(entries) != 4 { // a, b, the empty one (it has a name), notes.txt
		t.Errorf("data: %v", entries)
	}
}

func TestDamagedImage(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "page", []byte("<html>stored without a look</html>"))
	s := testStore(t, func(o *Options) { o.Dir = dir })
	list, err := s.List(context.Background(), "")
	if err != nil || len(list) != 1 || list[0].Damaged != nil {
		t.Errorf("%+v, %v", list, err)
	}
	img, err := s.Get(context.Background(), "page")
	if err != nil || img.Damaged == nil || img.VirtualSize != 0 {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestTags holds what critest's Image Manager wants of names.
func TestTags(t *testing.T) {
	f := &files{}
	const repo = "registry.example/e2e/test"
	for i, p := range []string{"/1", "/2", "/3"} {
		f.set(p, testImage(uint64(i), 1000))
	}
	srv := serve(t, f.ServeHTTP)
	s := testStore(t)
	translate(t, s, "a.yaml", fmt.Sprintf(`translations:
- {name: %[1]s, url: '%[2]s/1'}
- {name: %[1]s-2, url: '%[2]s/2'}
- {name: other.example/e2e/test, url: '%[2]s/1'}
`, repo, srv.URL))
	ctx := context.Background()
	one := hexSum(f.m["/1"])
	check := func(ref string, tags, digests []string) Image {
		t.Helper()
		img, err := s.Get(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(img.Names, tags) || !slices.Equal(img.RepoDigests, digests) {
			t.Errorf("%s: tags %v, digests %v", ref, img.Names, img.RepoDigests)
		}
		return img
	}
	digested := []string{repo + "@sha256:" + one}
	mustPull(t, s, repo)
	check(repo, []string{repo + ":latest"}, digested)
	mustPull(t, s, repo+":1")
	mustPull(t, s, repo+":2")
	check(repo+":1", []string{repo + ":1", repo + ":2", repo + ":latest"}, digested)
	mustPull(t, s, "other.example/e2e/test:1")
	img := check("other.example/e2e/test:1", []string{"other.example/e2e/test:1", repo + ":1", repo + ":2", repo + ":latest"},
		[]string{"other.example/e2e/test@sha256:" + one, digested[0]})
	for _, ref := range append(append(img.Names, img.RepoDigests...), img.ID) {
		if got, err := s.Get(ctx, ref); err != nil || got.ID != img.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	// Removing one tag removes all, of other registries too.
	mustPull(t, s, repo+"-2")
	if err := s.Remove(ctx, repo+":2"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != repo+"-2:latest" {
		t.Errorf("left: %s", got)
	}
	// By digest there are no tags.
	mustPull(t, s, digested[0])
	check(digested[0], nil, digested)
	check(img.ID, nil, digested)
	if err := s.Remove(ctx, digested[0]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Remove(ctx, repo+"-2"); err != nil {
			t.Fatal(err)
		}
	}
	wantEmpty(t, s)
}

func TestBothSpellingsAreOneImage(t *testing.T) {
	f := &files{}
	f.set("/x", testImage(1, 1000))
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	ctx := context.Background()
	mustPull(t, s, "x")
	if img, err := s.Get(ctx, "virtlet.cloud/x"); err != nil || img.Names[0] != "x:latest" {
		t.Errorf("%+v, %v", img, err)
	}
	f.set("/x", testImage(2, 1000))
	img := mustPull(t, s, "virtlet.cloud/x")
	if got := names(t, s); got != "virtlet.cloud/x:latest" {
		t.Errorf("names: %s", got)
	}
	if bare, err := s.Get(ctx, "x"); err != nil || bare.ID != img.ID {
		t.Errorf("%+v, %v", bare, err)
	}
	// A crash may leave two spellings: the newer counts, and no removal brings
	// the older back.
	time.Sleep(10 * time.Millisecond) // a later link must have a later time
	put(t, s.opts.Dir, "x:latest", testImage(3, 1000))
	if got := names(t, s); got != "x:latest" {
		t.Errorf("names: %s", got)
	}
	if err := s.Remove(ctx, "virtlet.cloud/x"); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

func TestAmbiguousPrefix(t *testing.T) {
	ix := &index{}
	for i := range 3 {
		ix.images = append(ix.images, Image{ID: digestPrefix + "abcd" + strings.Repeat(fmt.Sprint(i), 60)})
	}
	if _, err := ix.find("abcd"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
	if img, err := ix.find("sha256:abcd1"); err != nil || img.ID != ix.images[1].ID {
		t.Errorf("%+v, %v", img, err)
	}
}

func TestInUse(t *testing.T) {
	s := testStore(t)
	hex := put(t, s.opts.Dir, "x", testImage(1, 1000))
	used := map[string]bool{hex: true}
	s.SetInUse(func() map[string]bool {
		// The caller may hold the lock that its own calls to the store need.
		_, _ = s.List(context.Background(), "")
		return used
	})
	ctx := context.Background()
	path := filepath.Join(s.dataDir, hex)
	if err := s.Remove(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "" {
		t.Errorf("listed: %s", got)
	}
	if _, err := s.Get(ctx, "sha256:"+hex); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("data in use is lost: %v", err)
	}
	used = nil
	if err := s.GC(ctx); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
}

func TestAcquire(t *testing.T) {
	s := testStore(t)
	hex := put(t, s.opts.Dir, "x", testImage(1, 1000))
	ctx := context.Background()
	img, release, err := s.Acquire(ctx, "x")
	if err != nil || img.VirtualSize != 2000 {
		t.Fatalf("%+v, %v", img, err)
	}
	_, releaseToo, err := s.Acquire(ctx, img.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	release()
	release()
	if err := s.GC(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dataDir, hex)); err != nil {
		t.Fatalf("held data is lost: %v", err)
	}
	releaseToo()
	if err := s.GC(ctx); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, s)
	if _, _, err := s.Acquire(ctx, "x"); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
}

// TestReleaseWhileAsking: a VM is recorded and its hold released after GC asked
// who uses what. GC must ask again.
func TestReleaseWhileAsking(t *testing.T) {
	s := testStore(t)
	hex := put(t, s.opts.Dir, "x", testImage(1, 1000))
	ctx := context.Background()
	_, release, err := s.Acquire(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	s.SetInUse(func() map[string]bool {
		if asked++; asked == 1 {
			release()
			return nil
		}
		return map[string]bool{hex: true}
	})
	if err := s.Remove(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dataDir, hex)); err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

func TestNothingIsDeletedBeforeUseIsKnown(t *testing.T) {
	dir := t.TempDir()
	hex := put(t, dir, "", testImage(1, 1000))
	s, err := Open(Options{Dir: dir, Check: testCheck})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.GC(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, dataName, hex)); err != nil {
		t.Error(err)
	}
}

// Whoever changes the directories, the next list knows; with the kernel's help
// and without.
func TestChangesFromOutside(t *testing.T) {
	t.Run("watched", func(t *testing.T) { testChangesFromOutside(t, testStore(t)) })
	t.Run("unwatched", func(t *testing.T) {
		s := testStore(t)
		if err := s.watch.close(); err != nil {
			t.Fatal(err)
		}
		s.watch = nil
		testChangesFromOutside(t, s)
	})
}

func testChangesFromOutside(t *testing.T, s *Store) {
	for i, link := range []string{"a", "b", "c"} {
		put(t, s.opts.Dir, link, testImage(uint64(i), 1000))
		if got := strings.Count(names(t, s), ":latest"); got != i+1 {
			t.Errorf("%d images after %d", got, i+1)
		}
	}
	if err := os.Remove(filepath.Join(s.linksDir, "b")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "virtlet.cloud/a:latest virtlet.cloud/c:latest" {
		t.Errorf("got %s", got)
	}
	// A link that is replaced as ln -sf and mv do it.
	next := put(t, s.opts.Dir, "next", testImage(9, 1000))
	if err := os.Rename(filepath.Join(s.linksDir, "next"), filepath.Join(s.linksDir, "a")); err != nil {
		t.Fatal(err)
	}
	if img, err := s.Get(context.Background(), "a"); err != nil || img.Digest != next {
		t.Errorf("%+v, %v", img, err)
	}
	// A file that is copied in slowly does not stay at its first length.
	slow := filepath.Join(s.dataDir, next)
	if err := os.WriteFile(slow, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(context.Background(), "a"); err == nil {
		t.Error("an empty file is an image")
	}
	if err := os.WriteFile(slow, testImage(9, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if img, err := s.Get(context.Background(), "a"); err != nil || length(img) != 1000 || img.Size < 1 {
		t.Errorf("%+v, %v", img, err)
	}
	// Directories that are replaced as a whole.
	for _, dir := range []string{s.dataDir, s.linksDir} {
		if err := os.Rename(dir, dir+".old"); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s.opts.Dir, "new", testImage(10, 1000))
	if got := names(t, s); got != "virtlet.cloud/new:latest" {
		t.Errorf("got %s", got)
	}
	put(t, s.opts.Dir, "newer", testImage(11, 1000))
	if got := names(t, s); got != "virtlet.cloud/new:latest virtlet.cloud/newer:latest" {
		t.Errorf("got %s", got)
	}
}

// More changes at once than the kernel remembers are not lost.
func TestManyChangesFromOutside(t *testing.T) {
	s := testStore(t)
	put(t, s.opts.Dir, "x", testImage(1, 1000))
	_ = names(t, s)
	limit, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skip(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(limit)))
	if err != nil || n > 1<<16 {
		t.Skipf("%d events are remembered: %v", n, err)
	}
	a, b := filepath.Join(s.linksDir, "x"), filepath.Join(s.linksDir, "y")
	for range n/4 + 1 {
		if err := errors.Join(os.Rename(a, b), os.Rename(b, a)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(a, b); err != nil {
		t.Fatal(err)
	}
	if got := names(t, s); got != "virtlet.cloud/y:latest" {
		t.Errorf("got %s", got)
	}
}

func TestResultsAreCopies(t *testing.T) {
	s := testStore(t)
	put(t, s.opts.Dir, "x", testImage(1, 1000))
	list, err := s.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	list[0].Names[0], list[0].RepoDigests[0] = "spoilt", "spoilt"
	if got := names(t, s); got != "virtlet.cloud/x:latest" {
		t.Errorf("%s", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]Options{
		"no directory": {}, "protocol": {Dir: t.TempDir(), Protocol: "ftp"}, "a file": {Dir: file},
	} {
		if _, err := Open(o); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
}
