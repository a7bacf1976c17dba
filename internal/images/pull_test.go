package images

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowFiles serves /x and /y, but only after delay is closed.
func slowFiles(t *testing.T) (*files, *Store) {
	t.Helper()
	f := &files{delay: make(chan struct{})}
	f.set("/x", testImage(1, 10_000))
	f.set("/y", testImage(2, 10_000))
	s := testStore(t, func(o *Options) { o.MaxParallel = 1 })
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	return f, s
}

// pullAsync starts a pull and returns how to wait for its error.
func pullAsync(ctx context.Context, s *Store, ref string) func() error {
	done := make(chan error, 1)
	go func() {
		_, err := s.Pull(ctx, ref, nil)
		done <- err
	}()
	return func() error { return <-done }
}

func (s *Store) waiters(ref string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, d := range s.downloads {
		if key.name == ref {
			return d.waiters
		}
	}
	return 0
}

func TestPull(t *testing.T) {
	f := &files{}
	body := testImage(1, 2<<20)
	f.set("/x", body)
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	img := mustPull(t, s, "virtlet.cloud/x")
	if img.ID != ID(hexSum(body)) || img.Digest != hexSum(body) || length(img) != 2<<20 || img.VirtualSize != 4<<20 || img.Damaged != nil ||
		len(img.Names) != 1 || img.Names[0] != "virtlet.cloud/x:latest" || time.Since(img.PulledAt) > time.Minute {
		t.Errorf("%+v", img)
	}
	if by := img.Translated; !strings.HasPrefix(by, "rule ") || !strings.Contains(by, s.opts.TranslationDir) || !strings.HasSuffix(by, "/x") {
		t.Errorf("translated by %q", by)
	}
	stored, err := os.ReadFile(img.Path)
	if err != nil || hexSum(stored) != img.Digest {
		t.Errorf("stored: %v", err)
	}
	target, err := os.Readlink(filepath.Join(s.opts.Dir, "links", "x"))
	if err != nil || target != "../data/"+img.Digest {
		t.Errorf("link: %s, %v", target, err)
	}
	if left := parts(t, s); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestPullTwiceAtOnceFetchesOnce(t *testing.T) {
	f, s := slowFiles(t)
	var waits []func() error
	for _, ref := range []string{"x", "virtlet.cloud/x", "x:latest", "virtlet.cloud/x:latest"} {
		waits = append(waits, pullAsync(context.Background(), s, ref))
	}
	eventually(t, "four wait", func() bool { return s.waiters("x:latest") == 4 })
	close(f.delay)
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	if _, sent := f.count(); sent != 1 {
		t.Errorf("sent %d times", sent)
	}
}

func TestFirstCallerLeaves(t *testing.T) {
	f, s := slowFiles(t)
	ctx, cancel := context.WithCancel(context.Background())
	first := pullAsync(ctx, s, "x")
	eventually(t, "the request", func() bool { hits, _ := f.count(); return hits == 1 })
	second := pullAsync(context.Background(), s, "x")
	eventually(t, "two wait", func() bool { return s.waiters("x:latest") == 2 })
	cancel()
	if err := first(); !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	close(f.delay)
	if err := second(); err != nil {
		t.Errorf("second: %v", err)
	}
	if hits, _ := f.count(); hits != 1 {
		t.Errorf("%d requests", hits)
	}
}

func TestLastCallerLeaves(t *testing.T) {
	f, s := slowFiles(t)
	ctx, cancel := context.WithCancel(context.Background())
	first := pullAsync(ctx, s, "x")
	eventually(t, "the request", func() bool { hits, _ := f.count(); return hits == 1 })
	cancel()
	if err := first(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// The next call must not join the dying download.
	close(f.delay)
	mustPull(t, s, "x")
	eventually(t, "no part is left", func() bool { return parts(t, s) == nil })
}

func TestDeadline(t *testing.T) {
	_, s := slowFiles(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.Pull(ctx, "x", nil)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if _, err := s.Pull(ctx, "y", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired before the call: %v", err)
	}
	eventually(t, "nothing is left", func() bool { return parts(t, s) == nil && len(s.Downloads()) == 0 })
	wantEmpty(t, s)
}

func TestLimitAndProgress(t *testing.T) {
	f, s := slowFiles(t)
	x := pullAsync(context.Background(), s, "x")
	eventually(t, "the request", func() bool { hits, _ := f.count(); return hits == 1 })
	y := pullAsync(context.Background(), s, "virtlet.cloud/y:1")
	eventually(t, "two downloads", func() bool { return len(s.Downloads()) == 2 })
	running := s.Downloads()
	if d := running[0]; d.Ref != "x:latest" || d.Waiting || !strings.HasSuffix(d.URL, "/x") || d.Bytes != 0 || d.Total != -1 || d.Started.IsZero() {
		t.Errorf("%+v", d)
	}
	if d := running[1]; d.Ref != "virtlet.cloud/y:1" || !d.Waiting || d.URL != "" {
		t.Errorf("%+v", d)
	}
	if hits, _ := f.count(); hits != 1 {
		t.Errorf("%d requests although one may run", hits)
	}
	close(f.delay)
	if err := errors.Join(x(), y()); err != nil {
		t.Error(err)
	}
	if left := s.Downloads(); len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

func TestProgressOfBytes(t *testing.T) {
	body := testImage(1, 200_000)
	half, rest := make(chan struct{}), make(chan struct{})
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "200000")
		_, _ = w.Write(body[:100_000])
		_ = http.NewResponseController(w).Flush()
		close(half)
		<-rest
		_, _ = w.Write(body[100_000:])
	})
	s := testStore(t)
	translateAll(t, s, strings.Replace(srv.URL, "http://", "http://me:secret@", 1))
	wait := pullAsync(context.Background(), s, "x")
	<-half
	eventually(t, "half has arrived", func() bool { return s.Downloads()[0].Bytes >= 90_000 })
	if d := s.Downloads()[0]; d.Total != 200_000 || d.Rate <= 0 || strings.Contains(d.URL, "secret") {
		t.Errorf("%+v", d)
	}
	// A download is not garbage.
	if err := s.GC(context.Background()); err != nil {
		t.Error(err)
	}
	other, err := Open(s.opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if info, err := s.FSInfo(); err != nil || info.UsedBytes < 100_000 || len(parts(t, s)) != 1 {
		t.Errorf("%+v, %v, parts %v", info, err, parts(t, s))
	}
	close(rest)
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsDownloads(t *testing.T) {
	f, s := slowFiles(t)
	wait := pullAsync(context.Background(), s, "x")
	eventually(t, "the request", func() bool { hits, _ := f.count(); return hits == 1 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := wait(); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := s.Pull(context.Background(), "x", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	wantEmpty(t, s)
}

func TestPullOfKnownContent(t *testing.T) {
	f := &files{}
	body := testImage(1, 50_000)
	f.set("/x", body)
	f.set("/y", body)
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	byDigest := "x@sha256:" + hexSum(body)
	for i, c := range []struct {
		ref        string
		hits, sent int
	}{
		{"x", 1, 1},
		{"x", 2, 1},       // the server says that it is unchanged
		{byDigest, 2, 1},  // the content is its own name
		{"x:other", 3, 1}, // another tag of the same URL
		{"y", 4, 2},       // another URL: the content has to be seen
		{"y@sha256:" + hexSum(body), 4, 2},
	} {
		img := mustPull(t, s, c.ref)
		if hits, sent := f.count(); hits != c.hits || sent != c.sent || img.Digest != hexSum(body) {
			t.Errorf("%d %s: %d requests, %d bodies, %+v", i, c.ref, hits, sent, img)
		}
	}
	// Changed content is fetched, and the old is freed when it has lost all names.
	f.set("/x", testImage(9, 60_000))
	mustPull(t, s, "x")
	mustPull(t, s, "x:other")
	if _, err := s.Get(context.Background(), "y"); err != nil {
		t.Error(err)
	}
	if err := s.Remove(context.Background(), "y"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(s.dataDir, hexSum(body))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("old data: %v", err)
	}
	// What was known about a URL does not survive its data.
	_, before := f.count()
	f.set("/y", body)
	mustPull(t, s, "y")
	if _, sent := f.count(); sent != before+1 {
		t.Errorf("sent %d times instead of %d", sent, before+1)
	}
}

func TestKnownContentSurvivesReopening(t *testing.T) {
	f := &files{}
	f.set("/x", testImage(1, 50_000))
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	mustPull(t, s, "x")
	for _, damage := range []string{"", "{broken"} {
		if damage != "" {
			if err := os.WriteFile(filepath.Join(s.opts.Dir, sourcesName), []byte(damage), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, before := f.count()
		again := testStore(t, func(o *Options) { o.Dir, o.TranslationDir = s.opts.Dir, s.opts.TranslationDir })
		mustPull(t, again, "x")
		if _, sent := f.count(); (sent == before) != (damage == "") {
			t.Errorf("%q: %d bodies after %d", damage, sent, before)
		}
	}
}

func TestDamagedDataIsReplaced(t *testing.T) {
	f := &files{}
	body := testImage(1, 50_000)
	f.set("/x", body)
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	for what, damaged := range map[string][]byte{"empty": nil, "cut": body[:100], "zeroes": make([]byte, len(body))} {
		path := filepath.Join(s.dataDir, hexSum(body))
		if err := os.WriteFile(path+".new", damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		again := testStore(t, func(o *Options) { o.Dir, o.TranslationDir = s.opts.Dir, s.opts.TranslationDir })
		img := mustPull(t, again, "x@sha256:"+hexSum(body))
		stored, err := os.ReadFile(img.Path)
		if err != nil || hexSum(stored) != img.Digest || img.Damaged != nil {
			t.Errorf("%s: %v, %v", what, err, img.Damaged)
		}
	}
}

func TestManyPullsAndRemoves(t *testing.T) {
	f := &files{}
	for _, p := range []string{"/a", "/b", "/c"} {
		f.set(p, testImage(uint64(p[1]), 40_000))
	}
	f.set("/d", testImage('a', 40_000)) // the same as /a
	s := testStore(t)
	translateAll(t, s, serve(t, f.ServeHTTP).URL)
	ctx := context.Background()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				ref := string("abcd"[(i+j)%4])
				if (i+j)%3 == 0 {
					if err := s.Remove(ctx, ref); err != nil {
						t.Error(err)
					}
					continue
				}
				if img, release, err := s.Acquire(ctx, ref); err == nil {
					if _, err := os.Stat(img.Path); err != nil {
						t.Errorf("held image: %v", err)
					}
					release()
				}
				// A removal at the same moment may win.
				_, _ = s.Pull(ctx, ref, nil)
				if _, err := s.List(ctx, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, ref := range []string{"a", "b", "c", "d"} {
		if err := s.Remove(ctx, ref); err != nil {
			t.Error(err)
		}
	}
	wantEmpty(t, s)
}

// Where an image came from is told without secrets, and forgotten with it.
func TestSources(t *testing.T) {
	f := &files{}
	f.set("/x", testImage(1, 1000))
	s := testStore(t)
	url := serve(t, f.ServeHTTP).URL
	translate(t, s, "x.yaml", "translations:\n- {name: x, url: '"+strings.Replace(url, "http://", "http://joe:secret@", 1)+"/x?token=secret'}\n- {name: z, url: '"+url+"/x'}\n")
	mustPull(t, s, "x")
	mustPull(t, s, "z")
	put(t, s.opts.Dir, "old", testImage(2, 1000))
	all, err := s.Details(context.Background(), "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if got := all[1]; !slices.Equal(got.Sources, []string{url + "/x"}) || got.VirtualSize != 2000 {
		t.Errorf("%+v", got)
	}
	if got := all[0]; got.Sources != nil || got.VirtualSize != 2000 {
		t.Errorf("%+v", got)
	}
	text, err := os.ReadFile(filepath.Join(s.opts.Dir, sourcesName))
	if err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("%s, %v", text, err)
	}
	if one, err := s.Details(context.Background(), "z"); err != nil || len(one) != 1 || len(one[0].Names) != 2 {
		t.Errorf("%+v, %v", one, err)
	}
}
