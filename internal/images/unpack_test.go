package images

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// compressed runs a compressor over the bytes.
func compressed(t testing.TB, body []byte, argv ...string) []byte {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(body)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
	return out
}

func gzipOf(t testing.TB, body []byte) []byte { return compressed(t, body, "gzip", "-c") }

// TestCompressed pulls what other programs compressed, under names that lie.
func TestCompressed(t *testing.T) {
	body := testImage(1, 3<<20)
	half := len(body) / 2
	frame := []byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4} // skippable
	for what, sent := range map[string][]byte{
		"gzip":          gzipOf(t, body),
		"gzip members":  append(gzipOf(t, body[:half]), gzipOf(t, body[half:])...),
		"xz":            compressed(t, body, "xz", "-0"),
		"xz -1e sha256": compressed(t, body, "xz", "-1e", "--check=sha256"),
		"xz streams":    append(compressed(t, body[:half], "xz", "-0"), compressed(t, body[half:], "xz", "-0", "--check=crc32")...),
		"zstd":          compressed(t, body, "zstd", "-c"),
		"zstd --long":   compressed(t, body, "zstd", "-1", "--long=27", "-c"),
		"zstd frames":   append(append(frame, compressed(t, body[:half], "zstd")...), compressed(t, body[half:], "zstd", "--no-check")...),
	} {
		f := &files{}
		f.set("/x", sent)
		s := testStore(t)
		translateAll(t, s, serve(t, f.ServeHTTP).URL)
		byDigest := "x@sha256:" + hexSum(sent)
		for i, ref := range []string{"x", "x", byDigest, byDigest, "x:other", "y@sha256:" + hexSum(sent), "z@sha256:" + hexSum(body)} {
			img := mustPull(t, s, ref)
			if img.Digest != hexSum(body) || length(img) != int64(len(body)) || img.Format != "qcow2" {
				t.Errorf("%s: %s: %+v", what, ref, img)
			}
			if _, bodies := f.count(); bodies != 1 {
				t.Errorf("%s: %d: %s was sent again", what, i, ref)
			}
			if got, err := s.Get(context.Background(), ref); err != nil || got.ID != img.ID {
				t.Errorf("%s: %s is not found: %v", what, ref, err)
			}
		}
		if img, err := s.Get(context.Background(), "x"); err != nil || !strings.Contains(strings.Join(img.RepoDigests, " "), byDigest) {
			t.Errorf("%s: %v, %v", what, img.RepoDigests, err)
		}
		stored, err := os.ReadFile(s.DataPath(hexSum(body)))
		if err != nil || !bytes.Equal(stored, body) {
			t.Errorf("%s: stored something else: %v", what, err)
		}
	}
}

// TestDigestOfCompressed: a digest is of what the server sent, or of the disk.
func TestDigestOfCompressed(t *testing.T) {
	body := testImage(1, 100_000)
	sent := gzipOf(t, body)
	serveIt := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(sent) }
	for _, digest := range []string{hexSum(sent), hexSum(body)} {
		if _, img, err := pullFrom(t, serveIt, "x@sha256:"+digest); err != nil || img.Digest != hexSum(body) {
			t.Errorf("%+v, %v", img, err)
		}
	}
	s, _, err := pullFrom(t, serveIt, "x@sha256:"+hexA)
	if !errors.Is(err, ErrDigestMismatch) || !strings.Contains(err.Error(), "image digest mismatch: sha256:"+hexSum(sent)+" instead of sha256:"+hexA) {
		t.Errorf("%v", err)
	}
	wantEmpty(t, s)
}

func TestCompressedResumes(t *testing.T) {
	body := testImage(7, 3<<20)
	for _, argv := range [][]string{{"gzip", "-c"}, {"xz", "-0"}, {"zstd", "-c"}} {
		sent := compressed(t, body, argv...)
		same := &breaking{body: sent, cuts: []int{1 << 20, 2<<20 + 7}, etag: func(int) string { return `"v"` }}
		changing := &breaking{body: sent, cuts: []int{1 << 20, 2 << 20, 100}, etag: func(i int) string { return fmt.Sprintf(`"v%d"`, i/2) }}
		for _, b := range []*breaking{same, changing} {
			if _, img, err := pullFrom(t, b.ServeHTTP, "x"); err != nil || img.Digest != hexSum(body) {
				t.Errorf("%v: %+v, %v", argv, img, err)
			}
			if b.ranges.Load() != 2 {
				t.Errorf("%v: %d ranges", argv, b.ranges.Load())
			}
		}
	}
}

func TestBadCompressed(t *testing.T) {
	body := testImage(1, 300_000)
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0xff
		return b
	}
	gz, x, z := gzipOf(t, body), compressed(t, body, "xz", "-0"), compressed(t, body, "zstd", "-c")
	html := []byte("<!doctype html><title>Log in</title>" + strings.Repeat("x", 5000))
	for _, c := range []struct {
		what string
		sent []byte
		want string
	}{
		{"gzip cut", gz[:200_000], "the gzip data are damaged: unexpected EOF"},
		{"xz cut", x[:200_000], "the xz data are damaged"},
		{"zstd cut", z[:200_000], "the zstd data are damaged"},
		{"gzip checksum", flip(gz, len(gz)-6), "the gzip data are damaged: gzip: invalid checksum"},
		{"xz checksum", flip(x, len(x)-20), "the xz data are damaged"},
		{"zstd checksum", flip(z, len(z)-2), "the zstd data are damaged"},
		{"gzip with garbage", append(bytes.Clone(gz), "garbage"...), "the gzip data are damaged"},
		{"gzip twice", gzipOf(t, gz), "it is compressed twice, with gzip inside"},
		{"xz in gzip", gzipOf(t, x), "it is compressed twice, with xz inside"},
		{"html in gzip", gzipOf(t, html), `it looks like an HTML page ("<!doctype html><title>Log in</title>`},
		{"nothing in gzip", gzipOf(t, nil), "the file is empty"},
		{"tar in gzip", gzipOf(t, tarOf(t, tarEntry{"disk/x", body})), "a tar archive (an OVA?)"},
		{"huge window", zstdHugeWindow(), "more than 128 MiB of memory"},
		{"huge dictionary", compressed(t, body, "xz", "--lzma2=dict=192MiB", "-c"), "more than 128 MiB of memory"},
	} {
		s, _, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.sent) }, "x")
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		wantEmpty(t, s)
	}
}

// zstdHugeWindow is a frame header that asks for a window of 2 GiB.
func zstdHugeWindow() []byte {
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3}, make([]byte, 100)...)
}

// TestBombs: files that are small on the wire and endless on the disk.
func TestBombs(t *testing.T) {
	pattern := bytes.Repeat([]byte("QFI\xfb junk"), 1<<20)
	bomb := func(kind string, chunk []byte, total int64) []byte {
		var b bytes.Buffer
		var w io.WriteCloser
		if kind == "zstd" {
			w, _ = zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
		} else {
			w, _ = gzip.NewWriterLevel(&b, gzip.BestSpeed)
		}
		for n := int64(0); n < total; n += int64(len(chunk)) {
			_, _ = w.Write(chunk)
		}
		_ = w.Close()
		return b.Bytes()
	}
	noZeros := func(head []byte) bool { return !allZero(head) }
	for _, c := range []struct {
		what   string
		sent   []byte
		change func(*Options)
		want   string
	}{
		{"gzip", bomb("gzip", pattern, 264<<20), func(*Options) {}, "more than 100 times as many"},
		{"zstd", bomb("zstd", pattern, 264<<20), func(*Options) {}, "more than 100 times as many"},
		{"of zeros", bomb("gzip", make([]byte, 1<<20), 64<<20), func(o *Options) { o.IsDisk = noZeros }, "neither a partition table nor a file system"},
		{"over the limit", bomb("zstd", append([]byte("QFI\xfb"), make([]byte, 1<<20)...), 64<<20), func(o *Options) { o.MaxSize = 16 << 20 }, "over the limit of 16777216 bytes"},
	} {
		s, _, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.sent) }, "x", c.change)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		wantEmpty(t, s)
	}
}

// TestSparse: zeros take no space, whether they come compressed or not.
func TestSparse(t *testing.T) {
	body := make([]byte, 64<<20)
	copy(body, testImage(1, 1<<20))
	copy(body[40<<20+123:], "in the middle")
	accept := func(o *Options) { o.Check = nil }
	for what, sent := range map[string][]byte{"plain": body, "zstd": compressed(t, body, "zstd", "-c")} {
		_, img, err := pullFrom(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(sent) }, "x", accept)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		stored, err := os.ReadFile(img.Path)
		if err != nil || hexSum(stored) != hexSum(body) || img.Digest != hexSum(body) || img.Format != "raw" {
			t.Errorf("%s: %+v, %v", what, img, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(img.Path, &st); err != nil || st.Blocks*512 > 2<<20 {
			t.Errorf("%s: %d bytes on the disk, %v", what, st.Blocks*512, err)
		}
	}
}

type tarEntry struct {
	name string
	body []byte
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
