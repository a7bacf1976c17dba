package images

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestRuleWithDigest(t *testing.T) {
	f := &files{}
	body := testImage(1, 50_000)
	f.set("/x", gzipOf(t, body))
	url := serve(t, f.ServeHTTP).URL
	sent := hexSum(f.m["/x"])
	for _, c := range []struct{ digest, want string }{
		{sent, ""},
		{strings.ToUpper(sent), ""},
		{hexSum(body), ""},
		{hexA, "image digest mismatch: sha256:" + sent + " instead of sha256:" + hexA + ", which the rule's sha256 asks for"},
	} {
		s := testStore(t)
		translate(t, s, "x.yaml", "translations: [{name: x, url: '"+url+"/x', sha256: '"+c.digest+"'}]")
		for range 2 {
			_, before := f.count()
			_, err := s.Pull(context.Background(), "x", nil)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrDigestMismatch) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v", c.digest, err)
			}
			if _, after := f.count(); len(names(t, s)) > 0 && after > before+1 {
				t.Errorf("sent %d times", after-before)
			}
		}
		if c.want != "" {
			wantEmpty(t, s)
		}
	}
	// Both digests count.
	s := testStore(t)
	translate(t, s, "x.yaml", "translations: [{name: x, url: '"+url+"/x', sha256: '"+hexA+"'}]")
	if _, err := s.Pull(context.Background(), "x@sha256:"+sent, nil); !errors.Is(err, ErrDigestMismatch) {
		t.Errorf("%v", err)
	}
	if _, err := ParseTranslation("t", []byte("translations: [{name: x, url: u, sha256: abc}]")); err == nil || !strings.Contains(err.Error(), `sha256 "abc" (accepted: 64 hex digits)`) {
		t.Errorf("%v", err)
	}
}

func TestSums(t *testing.T) {
	f := &files{}
	body := testImage(1, 50_000)
	f.set("/dir/x", body)
	url := serve(t, f.ServeHTTP).URL
	good := hexSum(body) + " *x\n"
	for _, c := range []struct{ sums, want string }{
		{good, ""},
		{hexA + "  other\n" + good, ""},
		{hexA + "  x\n", "image digest mismatch: sha256:" + hexSum(body) + " instead of sha256:" + hexA + ", which SHA256SUMS asks for"},
		{hexSum(body) + "  y\n", `SHA256SUMS, which transport "p" requires: it has no line for "x"`},
		{"", `it has no line for "x"`},
		{strings.Repeat("#", maxSums+1), "larger than 4194304 bytes"},
	} {
		f.set("/dir/SHA256SUMS", []byte(c.sums))
		s := testStore(t)
		_, err := profiled(t, s, url+"/dir/x?token=1", Profile{RequireSHA256SUMS: true})
		if c.want == "" && err != nil || c.want != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.80q: %v", c.sums, err)
		}
		if c.want != "" {
			wantEmpty(t, s)
			continue
		}
		// What has the digest already is not sent again.
		_, before := f.count()
		mustPull(t, s, "x")
		if _, after := f.count(); after != before+1 {
			t.Errorf("%d bodies, expected one of SHA256SUMS only", after-before)
		}
	}
	s := testStore(t)
	if _, err := profiled(t, s, url+"/x", Profile{RequireSHA256SUMS: true}); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "SHA256SUMS, which transport") {
		t.Errorf("no such file: %v", err)
	}
	if _, err := profiled(t, s, "oci://"+strings.TrimPrefix(url, "http://")+"/x", Profile{RequireSHA256SUMS: true}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "a registry has no such file") {
		t.Errorf("%v", err)
	}
}

// TestSumsOfCoreutils reads what sha256sum writes.
func TestSumsOfCoreutils(t *testing.T) {
	dir := t.TempDir()
	all := []string{"x.img", "with blank", "back\\slash", "new\nline", "paren) = x", "*star"}
	for _, name := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, option := range []string{"--text", "--binary", "--tag"} {
		cmd := exec.Command("sha256sum", append([]string{option, "--"}, all...)...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		text := "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + strings.ReplaceAll(string(out), "x.img", "./x.img")
		for _, name := range all {
			if sum, ok := findSum([]byte(text), name); !ok || sum != hexSum([]byte(name)) {
				t.Errorf("%s: %q: %s", option, name, sum)
			}
		}
		if _, ok := findSum([]byte(text), "img"); ok {
			t.Error("half a name was found")
		}
	}
}

func FuzzSums(f *testing.F) {
	f.Add([]byte(hexA+" *x\n"), "x")
	f.Add([]byte("SHA256 (x) = "+hexA), "x")
	f.Add([]byte("\\"+hexA+"  a\\nb"), "a\nb")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		if sum, ok := findSum(text, name); ok && !isHexDigest(sum) {
			t.Fatalf("%q", sum)
		}
	})
}
