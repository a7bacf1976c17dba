package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// fileStore is a store that may read files below a directory, and the directory.
func fileStore(t *testing.T) (*Store, string) {
	dir := t.TempDir()
	s := testStore(t, func(o *Options) { o.FileDir = dir })
	translateAll(t, s, "file://"+dir)
	return s, dir
}

func writeFile(t *testing.T, path string, body []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, body, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestPullOfFile(t *testing.T) {
	s, dir := fileStore(t)
	body := testImage(1, 1<<20)
	writeFile(t, filepath.Join(dir, "sub/x"), gzipOf(t, body))
	if err := os.Symlink("x", filepath.Join(dir, "sub/link")); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"sub/x", "sub/link", "virtlet.cloud/sub/x:2"} {
		if img := mustPull(t, s, ref); img.Digest != hexSum(body) {
			t.Errorf("%s: %+v", ref, img)
		}
	}
	other := testImage(2, 1<<20)
	writeFile(t, filepath.Join(dir, "sub/x"), other)
	if img := mustPull(t, s, "sub/x"); img.Digest != hexSum(other) {
		t.Errorf("the change was not seen: %+v", img)
	}
}

// TestUnchangedFileIsNotRead replaces the content behind the store's back in a
// way that leaves all that it looks at.
func TestUnchangedFileIsNotRead(t *testing.T) {
	s, dir := fileStore(t)
	path := filepath.Join(dir, "x")
	writeFile(t, path, testImage(1, 1<<20))
	eventually(t, "the file is old enough to be remembered", func() bool {
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil && time.Since(time.Unix(st.Ctim.Unix())) > coarseClock
	})
	mustPull(t, s, "x")
	steps := 0
	s.onStep = func(step string) {
		if step == "part written" {
			steps++
		}
	}
	mustPull(t, s, "x")
	if steps != 0 {
		t.Error("the file was read again")
	}
}

func TestFilesOutside(t *testing.T) {
	s, dir := fileStore(t)
	outside := t.TempDir()
	writeFile(t, filepath.Join(outside, "x"), testImage(1, 5000))
	writeFile(t, filepath.Join(dir, "dir/y"), testImage(1, 5000))
	for link, target := range map[string]string{"abs": filepath.Join(outside, "x"), "up": "../" + filepath.Base(outside) + "/x", "away": outside} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		url, want string
		class     func(error) bool
	}{
		{"file://" + outside + "/x", "not below the image-file-dir", errdefs.IsPermissionDenied},
		{"file://" + dir + "/../" + filepath.Base(outside) + "/x", "not below the image-file-dir", errdefs.IsPermissionDenied},
		{"file://" + dir + "/%2e%2e/" + filepath.Base(outside) + "/x", "not below the image-file-dir", errdefs.IsPermissionDenied},
		{"file:///etc/passwd", "not below the image-file-dir", errdefs.IsPermissionDenied},
		{"file://" + dir + "/abs", "escapes", errdefs.IsFailedPrecondition},
		{"file://" + dir + "/up", "escapes", errdefs.IsFailedPrecondition},
		{"file://" + dir + "/away/x", "escapes", errdefs.IsFailedPrecondition},
		{"file://" + dir + "/dir", "not a regular file", errdefs.IsFailedPrecondition},
		{"file://" + dir + "/pipe", "not a regular file", errdefs.IsFailedPrecondition},
		{"file://" + dir + "/none", "no such file", errdefs.IsNotFound},
		{"file://host" + dir + "/dir/y", "not supported", errdefs.IsInvalidArgument},
	} {
		translate(t, s, "all.yaml", "translations: [{name: a, url: '"+c.url+"'}]")
		_, err := s.Pull(context.Background(), "a", nil)
		if err == nil || !c.class(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.url, err)
		}
	}
	off := testStore(t)
	translateAll(t, off, "file://"+dir)
	if _, err := off.Pull(context.Background(), "dir/y", nil); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "the setting image-file-dir is empty") {
		t.Errorf("%v", err)
	}
	wantEmpty(t, s)
	wantEmpty(t, off)
}

func TestFileSums(t *testing.T) {
	s, dir := fileStore(t)
	body := testImage(1, 5000)
	writeFile(t, filepath.Join(dir, "x"), body)
	text := "transports: {'': {requireSHA256SUMS: true}}\ntranslations: [{name: a, url: 'file://" + dir + "/x'}]"
	translate(t, s, "all.yaml", text)
	if _, err := s.Pull(context.Background(), "a", nil); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "SHA256SUMS") {
		t.Errorf("%v", err)
	}
	writeFile(t, filepath.Join(dir, "SHA256SUMS"), []byte(hexSum(body)+" *x\n"))
	mustPull(t, s, "a")
}
