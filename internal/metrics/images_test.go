package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/qemulet/qemulet/internal/images"
)

type fakeImages struct {
	downloads []images.Download
	err       error
}

func (f fakeImages) List(context.Context, string) ([]images.Image, error) {
	return make([]images.Image, 2), f.err
}
func (f fakeImages) Downloads() []images.Download { return f.downloads }
func (f fakeImages) Received() int64              { return 1234 }
func (f fakeImages) FSInfo() (images.FSInfo, error) {
	return images.FSInfo{UsedBytes: 4096, InodesUsed: 7}, f.err
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d, %v: %s", w.Code, err, body)
	}
	return string(body)
}

func TestPullsThatEnded(t *testing.T) {
	m := New("1.2.3")
	for _, e := range []images.Ended{
		{Download: images.Download{Bytes: 5}, Took: 3 * time.Second},
		{Download: images.Download{Bytes: 5}, Took: time.Second},
		{},
		{Err: errors.New("404")},
		{Err: fmt.Errorf("pull: %w", context.Canceled)},
	} {
		m.PullEnded(e)
	}
	text := scrape(t, m)
	for _, line := range []string{
		`qemulet_build_info{version="1.2.3"} 1`,
		`qemulet_image_pulls_total{result="fetched"} 2`,
		`qemulet_image_pulls_total{result="present"} 1`,
		`qemulet_image_pulls_total{result="failed"} 1`,
		`qemulet_image_pulls_total{result="canceled"} 1`,
		`qemulet_image_pull_duration_seconds_sum{result="fetched"} 4`,
		`qemulet_image_pull_duration_seconds_bucket{result="fetched",le="1"} 1`,
		"go_goroutines", "process_resident_memory_bytes",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is missing:\n%s", line, text)
		}
	}
}

func TestImageStore(t *testing.T) {
	m := New("")
	m.Watch(fakeImages{downloads: []images.Download{
		{Ref: "a:latest", Bytes: 10, Total: 100}, {Ref: "a:latest", Bytes: 1, Total: 100},
		{Ref: "b:latest", Bytes: 3, Total: -1}, {Ref: "c:latest", Waiting: true, Total: -1},
	}})
	text := scrape(t, m)
	for _, line := range []string{
		`qemulet_image_pulls_in_progress{state="running"} 3`,
		`qemulet_image_pulls_in_progress{state="waiting"} 1`,
		`qemulet_image_pull_progress_bytes{image="a:latest"} 11`,
		`qemulet_image_pull_size_bytes{image="a:latest"} 200`,
		`qemulet_image_pull_progress_bytes{image="b:latest"} 3`,
		"qemulet_image_received_bytes_total 1234",
		"qemulet_image_store_images 2",
		"qemulet_image_store_bytes 4096",
		"qemulet_image_store_inodes 7",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%s is missing:\n%s", line, text)
		}
	}
	if strings.Contains(text, `pull_size_bytes{image="b:latest"}`) {
		t.Error("a size that nobody knows")
	}
}

// A store that cannot be read does not take the other metrics along.
func TestBrokenStore(t *testing.T) {
	m := New("1")
	m.Watch(fakeImages{err: errors.New("no such directory")})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if body := w.Body.String(); !strings.Contains(body, "qemulet_build_info") || strings.Contains(body, "image_store_bytes") {
		t.Errorf("%d: %s", w.Code, body)
	}
}
