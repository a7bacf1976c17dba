package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/qemulet/qemulet/internal/images"
)

func serve(t *testing.T, downloads ...images.Download) string {
	t.Helper()
	return serveStore(t, &fakeStore{downloads: downloads})
}

func serveStore(t *testing.T, store Store) string {
	t.Helper()
	text := func(what string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, what) })
	}
	s := httptest.NewServer(Handler(Options{
		Images:     store,
		ImageUsers: func() map[string][]string { return map[string][]string{"d1": {"default/web"}} },
		Metrics:    text("metrics\n"),
		Sessions: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "session "+r.URL.Path)
		}),
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, res)
}

func read(t *testing.T, res *http.Response) (int, string) {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestPulls(t *testing.T) {
	started := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	url := serve(t, images.Download{Ref: "virtlet.cloud/cirros:latest", URL: "https://host/c.img", Bytes: 5, Total: -1, Started: started, Rate: 2.5})
	code, body := get(t, url+PullsPath)
	var got []Pull
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	want := Pull{Ref: "virtlet.cloud/cirros:latest", URL: "https://host/c.img", Bytes: 5, Total: -1, Started: started, Rate: 2.5}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestNoPullsIsAnEmptyArray(t *testing.T) {
	if _, body := get(t, serve(t)+PullsPath); body != "[]\n" {
		t.Errorf("got %q", body)
	}
}

func TestPaths(t *testing.T) {
	url := serve(t)
	for path, want := range map[string]string{
		"/attach/x":      "session /attach/x",
		"/portforward/x": "session /portforward/x",
		"/healthz":       "ok\n",
	} {
		if code, body := get(t, url+path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	if code, _ := get(t, url+"/exec/x"); code != http.StatusNotFound {
		t.Errorf("/exec/x: %d, want 404", code)
	}
}
