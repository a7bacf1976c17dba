package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// oneDebug debugs one VM, default/web, with a display or not.
type oneDebug struct{ display net.Conn }

func (oneDebug) there(namespace, name string) error {
	if namespace+"/"+name == "default/web" {
		return nil
	}
	return fmt.Errorf("no VM %s: %w", name, errdefs.ErrNotFound)
}

func (d oneDebug) Monitor(_ context.Context, namespace, name string, writes bool) (func(context.Context, net.Conn), error) {
	return func(_ context.Context, nc net.Conn) { fmt.Fprintf(nc, "writes: %t", writes) }, d.there(namespace, name)
}

func (d oneDebug) VNC(_ context.Context, namespace, name string) (net.Conn, error) {
	if d.display == nil {
		return nil, fmt.Errorf("no display: %w", errdefs.ErrFailedPrecondition)
	}
	return d.display, d.there(namespace, name)
}

func (d oneDebug) Screenshot(_ context.Context, namespace, name string, w io.Writer) error {
	if err := d.there(namespace, name); err != nil {
		return err
	}
	_, err := io.WriteString(w, "a picture")
	return err
}

func serveDebug(t *testing.T, d oneDebug) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(Handler(Options{Debug: d, Metrics: http.NotFoundHandler(), Sessions: http.NotFoundHandler()}))
	t.Cleanup(s.Close)
	return s
}

func TestMonitorStream(t *testing.T) {
	s := serveDebug(t, oneDebug{})
	for query, want := range map[string]string{"": "false", "?writes=false": "false", "?writes=true": "true"} {
		status, r, _ := open(t, s, VMPath("default", "web", MonitorPath)+query)
		if all, err := io.ReadAll(r); !strings.HasPrefix(status, "101") || err != nil || string(all) != "writes: "+want {
			t.Errorf("%s: %s: %q, %v", query, status, all, err)
		}
	}
	for path, want := range map[string]string{
		VMPath("default", "none", MonitorPath):                  "404",
		VMPath("default", "web", MonitorPath) + "?writes=maybe": "400 Bad Request: writes=maybe",
		VMPath("default", "web", VNCPath):                       "409 Conflict: no display",
	} {
		if status, _, _ := open(t, s, path); !strings.HasPrefix(status, want) {
			t.Errorf("%s: %s", path, status)
		}
	}
}

func TestVNCStream(t *testing.T) {
	near, far := net.Pipe()
	status, _, conn := open(t, serveDebug(t, oneDebug{display: near}), VMPath("default", "web", VNCPath))
	got := make([]byte, 6)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "hello\n" || !strings.HasPrefix(status, "101") {
		t.Errorf("%s: %q, %v", status, got, err)
	}
	conn.Close()
	if _, err := far.Read(got); err != io.EOF {
		t.Errorf("the display's end after the client's: %v", err)
	}
}

func TestScreenshot(t *testing.T) {
	s := serveDebug(t, oneDebug{})
	res, err := http.Get(s.URL + VMPath("default", "web", ScreenshotPath))
	if err != nil {
		t.Fatal(err)
	}
	if code, body := read(t, res); code != http.StatusOK || body != "a picture" || res.Header.Get("Content-Type") != "image/png" {
		t.Errorf("%d %s %v", code, body, res.Header)
	}
	if code, _ := get(t, s.URL+VMPath("default", "none", ScreenshotPath)); code != http.StatusNotFound {
		t.Errorf("a VM that is not there: %d", code)
	}
}
