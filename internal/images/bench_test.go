package images

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func storeOf(b testing.TB, n int) *Store {
	s := testStore(b)
	for i := range n {
		put(b, s.opts.Dir, fmt.Sprintf("example.com%%images%%vm-%04d.qcow2", i), testImage(uint64(i), 64))
	}
	return s
}

// BenchmarkList lists 1,000 images; the goal is below 5 ms each.
func BenchmarkList(b *testing.B) {
	s := storeOf(b, 1000)
	list := func(b *testing.B) {
		all, err := s.List(context.Background(), "")
		if err != nil || len(all) != 1000 {
			b.Fatal(len(all), err)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			s.ix = nil
			list(b)
		}
	})
	b.Run("after a change", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			put(b, s.opts.Dir, "new", testImage(uint64(1000+i), 64))
			if err := os.Rename(filepath.Join(s.linksDir, "new"), filepath.Join(s.linksDir, "example.com%images%vm-0500.qcow2")); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			list(b)
		}
	})
	b.Run("unwatched", func(b *testing.B) {
		w := s.watch
		s.watch = nil
		defer func() { s.watch = w }()
		for b.Loop() {
			list(b)
		}
	})
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			list(b)
		}
	})
}

// BenchmarkPull compares a pull over TLS on loopback with curl that writes the
// same bytes into the same file system and through sha256sum.
func BenchmarkPull(b *testing.B) {
	const size = 512 << 20
	body := testImage(1, size)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	b.Cleanup(srv.Close)
	s := testStore(b)
	trust(b, s, srv.URL, srv.Certificate())
	b.Run("store", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			img, err := s.Pull(context.Background(), "x", nil)
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Remove(context.Background(), img.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("curl", func(b *testing.B) {
		file := filepath.Join(s.opts.Dir, "curl")
		b.SetBytes(size)
		for b.Loop() {
			script := `curl -sk "$1" | tee "$2" | sha256sum; rm "$2"`
			if out, err := exec.Command("bash", "-c", script, "bash", srv.URL+"/x", file).CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
}

// trust maps x to the server, and makes its certificate an authority.
func trust(b testing.TB, s *Store, url string, cert *x509.Certificate) {
	text, err := json.Marshal(Translation{
		Rules: []Rule{{Name: "x", URL: url + "/x"}},
		Transports: map[string]Profile{"": {TLS: &TLSProfile{Certificates: []TLSCertificate{{
			Cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		}}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.opts.TranslationDir, "x.yaml"), text, 0o600); err != nil {
		b.Fatal(err)
	}
}

// TestListIsFast guards the goal loosely: ten times the measured time.
func TestListIsFast(t *testing.T) {
	s := storeOf(t, 1000)
	_ = names(t, s)
	start := time.Now()
	if _, err := s.List(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 50*time.Millisecond {
		t.Errorf("listing took %v", took)
	}
}
