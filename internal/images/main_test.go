package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testImage returns a file that testCheck accepts: QEMU's magic, the file's
// length, noise.
func testImage(seed uint64, size int) []byte {
	b := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i+8 <= size; i += 8 {
		binary.BigEndian.PutUint64(b[i:], r.Uint64())
	}
	copy(b, "QFI\xfb")
	binary.BigEndian.PutUint64(b[8:], uint64(size))
	return b
}

// testCheck stands for the format check: it notices other files and cut ones.
func testCheck(r io.ReaderAt, size int64) (string, int64, error) {
	var head [16]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return "", 0, fmt.Errorf("no header: %w", err)
	}
	if !bytes.HasPrefix(head[:], []byte("QFI\xfb")) {
		return "", 0, errors.New("no qcow2 magic")
	}
	if want := int64(binary.BigEndian.Uint64(head[8:])); want != size {
		return "", 0, fmt.Errorf("%d bytes instead of %d", size, want)
	}
	return "qcow2", 2 * size, nil
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// warnings collects what a store says beside its results.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, err.Error())
}

func (w *warnings) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.all, "\n")
}

// testStore opens a store that uses http and is quick to give up. Nothing is in
// use by a VM.
func testStore(t testing.TB, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{
		Dir: t.TempDir(), TranslationDir: t.TempDir(), Protocol: "http", Check: testCheck,
		Backoff: time.Millisecond, Warn: func(err error) { t.Errorf("warning: %v", err) },
	}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.SetInUse(func() map[string]bool { return nil })
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve starts a server whose handler may change.
func serve(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// files serves contents by path, with ranges and ETags, and counts the bodies.
type files struct {
	mu    sync.Mutex
	m     map[string][]byte
	hits  int // requests
	sent  int // bodies
	delay chan struct{}
}

func (f *files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	body, ok := f.m[r.URL.Path]
	f.hits++
	delay := f.delay
	f.mu.Unlock()
	if delay != nil {
		select {
		case <-delay:
		case <-r.Context().Done():
			return
		}
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+hexSum(body)+`"`)
	if r.Header.Get("If-None-Match") == "" {
		f.mu.Lock()
		f.sent++
		f.mu.Unlock()
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (f *files) count() (hits, sent int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits, f.sent
}

func (f *files) set(path string, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = map[string][]byte{}
	}
	f.m[path] = body
}

// translate writes a translation file of the store.
func translate(t testing.TB, s *Store, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.opts.TranslationDir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// translateAll maps every name "x" to <url>/x.
func translateAll(t testing.TB, s *Store, url string) {
	translate(t, s, "all.yaml", "translations:\n- regexp: '^(.*)$'\n  url: "+url+"/$1\n")
}

// length is that of an image's file, -1 when there is none. Image.Size depends on the file system.
func length(img Image) int64 {
	fi, err := os.Stat(img.Path)
	if err != nil {
		return -1
	}
	return fi.Size()
}

func mustPull(t testing.TB, s *Store, ref string) Image {
	t.Helper()
	img, err := s.Pull(context.Background(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// parts returns the part files of a store.
func parts(t testing.TB, s *Store) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dataDir, partPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantEmpty fails unless the store holds nothing at all.
func wantEmpty(t testing.TB, s *Store) {
	t.Helper()
	for _, dir := range []string{s.dataDir, s.linksDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("left behind: %s", filepath.Join(dir, e.Name()))
		}
	}
}

// eventually waits for a condition that no event announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
