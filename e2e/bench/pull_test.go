package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const (
	pullBytes  = 1 << 30
	pullRounds = 5
)

// BenchmarkPull measures how fast an image comes over TLS, beside curl that writes the same bytes into the same file
// system and through sha256sum; and what a pull costs when nothing has changed.
func BenchmarkPull(b *testing.B) {
	n := node.Start(b, node.Options{})
	disk := filepath.Join(n.Dir, "disk")
	must(b, writeDisk(disk))
	// A server's date is believed when it is not of just now.
	yesterday := time.Now().AddDate(0, 0, -1)
	must(b, os.Chtimes(disk, yesterday, yesterday))
	var sent atomic.Int64
	certificate := n.ServeTLS(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(&countingWriter{w, &sent}, r, disk)
	}))
	n.Translate(b, "bench.yaml", fmt.Sprintf("translations: [{name: bench, url: 'https://127.0.0.1/disk'}]\ntransports: {'': {tls: {certificates: [{cert: %q}]}}}", certificate))
	ca := filepath.Join(n.Dir, "ca.pem")
	must(b, os.WriteFile(ca, []byte(certificate), 0o600))
	thread := newThread(b, "/run/netns/"+n.Netns())

	r := row{what: "pull of a 1 GiB image over TLS, loopback", unit: "ms", beside: "curl, sha256sum", goal: goal{ratio: 1 / 0.9}}
	again := row{what: "— once more, nothing has changed", unit: "ms"}
	for range pullRounds {
		r.baseline.addTime(timed(b, func() error {
			return thread.do(func() error {
				script := fmt.Sprintf("curl -s --fail --cacert %s https://127.0.0.1/disk | tee %[2]s | sha256sum; rm %[2]s", ca, filepath.Join(n.Dir, "state", "curl"))
				return runProgram(os.Environ(), nil, "bash", "-o", "pipefail", "-c", script)
			})
		}))
		var id string
		r.measured.addTime(timed(b, func() (err error) { id, err = pullBench(n); return err }))
		before := sent.Load()
		again.measured.addTime(timed(b, func() error { _, err := pullBench(n); return err }))
		if got := sent.Load() - before; got != 0 {
			b.Errorf("%d bytes were sent again", got)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := n.Images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: id}})
		cancel()
		must(b, err)
	}
	r.report(b)
	again.report(b)
	r.metric(b, "pull")
}

func pullBench(n *node.Node) (id string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	resp, err := n.Images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: "virtlet.cloud/bench"}})
	return resp.GetImageRef(), err
}

// writeDisk writes a raw disk full of noise behind a master boot record.
func writeDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	mbr := strings.Repeat("\x00", 510) + "\x55\xaa"
	if _, err := io.WriteString(f, mbr); err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, pullBytes-int64(len(mbr)))
	return err
}

// countingWriter counts the bytes of a body.
type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.n.Add(int64(n))
	return n, err
}
