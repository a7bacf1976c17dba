package images

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// pullFrom pulls an image that a handler serves as /x.
func pullFrom(t *testing.T, h http.HandlerFunc, ref string, change ...func(*Options)) (*Store, Image, error) {
	t.Helper()
	srv := serve(t, h)
	s := testStore(t, change...)
	translateAll(t, s, srv.URL)
	img, err := s.Pull(context.Background(), ref, nil)
	return s, img, err
}

func TestBadAnswers(t *testing.T) {
	good := testImage(1, 100_000)
	bare := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	iso := make([]byte, 100_000)
	copy(iso[0x8001:], "CD001")
	for _, c := range []struct {
		what  string
		h     http.HandlerFunc
		ref   string
		want  string
		class func(error) bool
	}{
		{"404", status(404), "x", "the server says 404 Not Found", errdefs.IsNotFound},
		{"401", status(401), "x", "401 Unauthorized", errdefs.IsUnauthorized},
		{"403", status(403), "x", "403 Forbidden", errdefs.IsPermissionDenied},
		{"204", status(204), "x", "204 No Content", nil},
		{"206 unasked", status(206), "x", "content range", nil},
		{"304 unasked", status(304), "x", "304 Not Modified", nil},
		{"500", status(500), "x", "500 Internal Server Error (tried 4 times)", errdefs.IsUnavailable},
		{"html", bare([]byte("<!doctype html><title>Log in</title>")), "x", `it looks like an HTML page ("<!doctype html><title>Log in</title>")`, errdefs.IsFailedPrecondition},
		{"iso", bare(iso), "x", "ISO 9660", errdefs.IsFailedPrecondition},
		{"gzip", bare([]byte("\x1f\x8b\x08\x00abcdefgh")), "x", "the gzip data are damaged", errdefs.IsFailedPrecondition},
		{"noise", bare(bytes.Repeat([]byte{1, 2, 3, 0}, 30_000)), "x", "no qcow2 magic", errdefs.IsFailedPrecondition},
		{"empty", bare(nil), "x", "the file is empty", errdefs.IsFailedPrecondition},
		{"cut but consistent", bare(good[:5000]), "x", "5000 bytes instead of 100000", errdefs.IsFailedPrecondition},
		{"wrong digest", bare(good), "x@sha256:" + hexA, "image digest mismatch: sha256:" + hexSum(good) + " instead of sha256:" + hexA, errdefs.IsFailedPrecondition},
		{"encoded", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(good)
		}, "x", `content encoding "gzip"`, errdefs.IsFailedPrecondition},
		{"truncated", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "200000")
			_, _ = w.Write(good)
		}, "x", "the connection ended after 100000 of 200000 bytes", errdefs.IsUnavailable},
		{"chunked and cut", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(good)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "x", "the connection ended after 100000 bytes", errdefs.IsUnavailable},
		{"huge", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<60))
			_, _ = w.Write(good)
		}, "x", "no space left in", errdefs.IsResourceExhausted},
	} {
		t.Run(c.what, func(t *testing.T) {
			s, _, err := pullFrom(t, c.h, c.ref)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "pull image x") {
				t.Errorf("%v", err)
			}
			if c.class != nil && !c.class(err) {
				t.Errorf("wrong class: %v", err)
			}
			if !strings.Contains(err.Error(), ": http://127.0.0.1:") {
				t.Errorf("no URL in %v", err)
			}
			wantEmpty(t, s)
		})
	}
}

func TestRefusedEarly(t *testing.T) {
	sent := make(chan int64, 1)
	_, _, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		n, _ := io.Copy(w, io.MultiReader(strings.NewReader("<html>"), endless{}))
		sent <- n
	}, "x")
	if err == nil || !strings.Contains(err.Error(), "an HTML page") {
		t.Fatalf("%v", err)
	}
	if n := <-sent; n > 32<<20 {
		t.Errorf("%d bytes were sent before the page was recognised", n)
	}
}

// endless is a reader of blanks.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestMaxSize(t *testing.T) {
	limit := func(o *Options) { o.MaxSize = 1000 }
	for what, h := range map[string]http.HandlerFunc{
		"announced": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(testImage(1, 1001)) },
		"not announced": func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(testImage(1, 1001))
		},
	} {
		s, _, err := pullFrom(t, h, "x", limit)
		if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "over the limit of 1000 bytes") {
			t.Errorf("%s: %v", what, err)
		}
		wantEmpty(t, s)
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	s := testStore(t)
	_, err = s.Pull(context.Background(), "virtlet.cloud/"+addr+"/x", nil)
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "connection refused (tried 4 times)") {
		t.Errorf("%v", err)
	}
	_, err = s.Pull(context.Background(), "virtlet.cloud/cirros", nil)
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), `no image translation rule matches "cirros"`) {
		t.Errorf("%v", err)
	}
	translate(t, s, "x.yaml", "translations: [{name: a, url: 'ftp://host/x'}, {name: b, url: 'http:///x'}, {name: c, url: 'http://u:secret@h:x/'}]")
	for _, name := range []string{"a", "b", "c"} {
		if _, err := s.Pull(context.Background(), name, nil); !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantEmpty(t, s)
}

// breaking serves a body in pieces: each connection ends after the next cut.
type breaking struct {
	body   []byte
	cuts   []int
	etag   func(request int) string
	ranges atomic.Int32
	n      atomic.Int32
}

func (b *breaking) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i := int(b.n.Add(1)) - 1
	etag := b.etag(i)
	from := 0
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	if rng := r.Header.Get("Range"); rng != "" && r.Header.Get("If-Range") == etag {
		b.ranges.Add(1)
		_, _ = fmt.Sscanf(rng, "bytes=%d-", &from)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b.body)-1, len(b.body)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b.body)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	to := len(b.body)
	if i < len(b.cuts) {
		to = b.cuts[i]
	}
	if to > from {
		_, _ = w.Write(b.body[from:to])
	}
	_ = http.NewResponseController(w).Flush()
	if to < len(b.body) {
		panic(http.ErrAbortHandler)
	}
}

func TestResume(t *testing.T) {
	body := testImage(7, 3<<20)
	same := func(int) string { return `"v1"` }
	for _, c := range []struct {
		what   string
		etag   func(int) string
		cuts   []int
		ranges int32
		ok     bool
	}{
		{"ranges", same, []int{1 << 20, 2 << 20, 2<<20 + 1, 2<<20 + 1}, 4, true},
		{"progress counts", same, []int{100, 1 << 20, 1<<20 + 1, 1<<20 + 2, 2<<20 + 2, 2<<20 + 3, 2<<20 + 4}, 7, true},
		{"gives up", same, []int{10, 20, 30, 40, 50}, 3, false},
		{"no validator", func(int) string { return "" }, []int{1 << 20, 100}, 0, true},
		{"weak validator", func(int) string { return `W/"v"` }, []int{1 << 20, 100}, 0, true},
		{"content changes", func(i int) string { return fmt.Sprintf(`"v%d"`, i/2) }, []int{1 << 20, 2 << 20, 100}, 2, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := &breaking{body: body, cuts: c.cuts, etag: c.etag}
			s, img, err := pullFrom(t, b.ServeHTTP, "x@sha256:"+hexSum(body))
			if (err == nil) != c.ok {
				t.Fatalf("%v", err)
			}
			if b.ranges.Load() != c.ranges {
				t.Errorf("%d ranges were asked for instead of %d", b.ranges.Load(), c.ranges)
			}
			if c.ok && length(img) != int64(len(body)) {
				t.Errorf("length %d", length(img))
			}
			if left := parts(t, s); left != nil {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestWrongRanges(t *testing.T) {
	body := testImage(7, 100_000)
	for _, header := range []string{"", "bytes 0-99999/100000", "bytes 50000-99999/99999", "bytes 50000-99999/200000", "bytes x-y/z", "bytes 5-4/10"} {
		var n atomic.Int32
		_, _, err := pullFrom(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v"`)
			switch n.Add(1) {
			case 1:
				w.Header().Set("Content-Length", "100000")
				_, _ = w.Write(body[:50_000])
			case 2:
				if r.Header.Get("Range") != "bytes=50000-" {
					t.Errorf("range %q", r.Header.Get("Range"))
				}
				w.Header().Set("Content-Range", header)
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(body[50_000:])
			default:
				if r.Header.Get("Range") != "" {
					t.Error("asked for a range again")
				}
				_, _ = w.Write(body)
			}
		}, "x")
		if err != nil {
			t.Errorf("%q: %v", header, err)
		}
	}
}

func TestRangeLongerThanAnnounced(t *testing.T) {
	body := testImage(7, 100_000)
	var n atomic.Int32
	s, _, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v"`)
		if n.Add(1) == 1 {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(body[:50_000])
			return
		}
		w.Header().Set("Content-Range", "bytes 50000-99999/100000")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(body) // 50,000 too many
	}, "x")
	if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "100000 bytes were announced, more came") {
		t.Errorf("%v", err)
	}
	wantEmpty(t, s)
}

func TestRetryAfter(t *testing.T) {
	var n atomic.Int32
	start := time.Now()
	_, _, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(testImage(1, 1000))
	}, "x")
	if err != nil || time.Since(start) < time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestStall(t *testing.T) {
	stallSoon := func(o *Options) { o.StallTimeout, o.Retries = 50*time.Millisecond, 1 }
	for what, h := range map[string]http.HandlerFunc{
		"before the head": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"in the body": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(testImage(1, 100))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		s, _, err := pullFrom(t, h, "x", stallSoon)
		if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "no byte came for 50ms: download stalled") || !strings.Contains(err.Error(), "tried 2 times") {
			t.Errorf("%s: %v", what, err)
		}
		wantEmpty(t, s)
	}
}

func TestSlowIsNoStall(t *testing.T) {
	body := testImage(1, 50)
	_, _, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range body {
			_, _ = w.Write(body[i : i+1])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(5 * time.Millisecond) // the behaviour under test
		}
	}, "x", func(o *Options) { o.StallTimeout, o.Retries = 200*time.Millisecond, -1 })
	if err != nil {
		t.Error(err)
	}
}

// TestExtraBytes: what follows the announced length on a connection is no part
// of the answer (RFC 9112, 6.3), and must not get into the image.
func TestExtraBytes(t *testing.T) {
	body := testImage(1, 1000)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sEXTRA", len(body), body)
			_ = c.Close()
		}
	}()
	s := testStore(t)
	img := mustPull(t, s, l.Addr().String()+"/x")
	if img.Digest != hexSum(body) {
		t.Errorf("%+v", img)
	}
}

// TestDiskFull uses a file system of its own of one megabyte.
func TestDiskFull(t *testing.T) {
	for what, h := range map[string]http.HandlerFunc{
		"announced": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(testImage(1, 4<<20)) },
		"not announced": func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(testImage(1, 4<<20))
		},
	} {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatalf("mounting a small tmpfs needs root: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		s, _, err := pullFrom(t, h, "x", func(o *Options) { o.Dir = dir })
		if !errdefs.IsResourceExhausted(err) || !strings.Contains(err.Error(), "no space left in "+dir) || strings.Contains(err.Error(), "tried") {
			t.Errorf("%s: %v", what, err)
		}
		wantEmpty(t, s)
		info, err := s.FSInfo()
		if err != nil || info.Mountpoint != dir {
			t.Errorf("%+v, %v", info, err)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		from, total, err := parseContentRange(s)
		if err == nil && (from < 0 || total >= 0 && from >= total) {
			t.Fatalf("%q: %d of %d", s, from, total)
		}
	})
}

func TestHintAtTranslation(t *testing.T) {
	unknownHost := &readError{&net.DNSError{Err: "no such host", Name: "ubuntu", IsNotFound: true}}
	n := Name{Path: "ubuntu/22.04", Tag: latest}
	if got := (&job{name: n}).hint(unknownHost); !strings.Contains(got, `no image translation rule matches "ubuntu/22.04"`) {
		t.Errorf("%q", got)
	}
	if got := (&job{name: n, res: Resolution{Rule: &Rule{}}}).hint(unknownHost); got != "" {
		t.Errorf("a rule matched: %q", got)
	}
	if retryable(unknownHost) {
		t.Error("an unknown host is asked for again")
	}
}
