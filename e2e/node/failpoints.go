package node

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// failpointAddress is where a daemon with failpoints can be told which to arm, on the node's loopback.
const failpointAddress = "127.0.0.1:22381"

// FailpointEnv has a daemon built by FailpointBinary listen for Failpoints.
const FailpointEnv = "GOFAIL_HTTP=" + failpointAddress

var failpointBinary struct {
	once sync.Once
	path string
	err  error
}

// FailpointBinary builds, once for a test process, a daemon whose "gofail:" comments have become code: from a copy of
// the sources, so that the tree stays as it is.
func FailpointBinary(tb testing.TB) string {
	tb.Helper()
	b := &failpointBinary
	b.once.Do(func() { b.path, b.err = buildWithFailpoints() })
	must(tb, b.err)
	return b.path
}

func buildWithFailpoints() (string, error) {
	tmp, err := os.MkdirTemp("", "qemulet-failpoints-")
	if err != nil {
		return "", err
	}
	src := filepath.Join(tmp, "src")
	dirs, err := copySources(Top(), src)
	if err != nil {
		return "", err
	}
	run := func(argv ...string) error {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = src
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
		return nil
	}
	if err := run(append([]string{"go", "tool", "gofail", "enable"}, dirs...)...); err != nil {
		return "", err
	}
	binary := filepath.Join(tmp, "qemulet")
	return binary, run("go", "build", "-buildvcs=false", "-o", binary, "./cmd/qemulet")
}

// copySources copies what the daemon is built from, and returns the folders that have failpoints.
func copySources(from, to string) (dirs []string, err error) {
	seen := map[string]bool{}
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			if rel == "e2e" || rel == "bin" || rel == ".git" || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() || strings.HasSuffix(rel, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if dir := filepath.Dir(rel); strings.HasSuffix(rel, ".go") && strings.Contains(string(data), "// gofail: var ") && !seen[dir] {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o644)
	})
	return dirs, err
}

// RemoveFailpointBinary deletes what FailpointBinary built; for TestMain.
func RemoveFailpointBinary() {
	if p := failpointBinary.path; p != "" {
		os.RemoveAll(filepath.Dir(p))
	}
}

// Failpoints lists the names of the running daemon's failpoints.
func (n *Node) Failpoints(tb testing.TB) []string {
	tb.Helper()
	body, err := n.failpoint(http.MethodGet, "", "")
	must(tb, err)
	var names []string
	for _, line := range strings.Fields(body) {
		name, _, _ := strings.Cut(line, "=")
		names = append(names, name)
	}
	return names
}

// Hold makes whoever comes to the failpoint stay there, so that the daemon can be killed at exactly this place: nothing
// runs after it, no deferred function either, which a panic would run.
func (n *Node) Hold(tb testing.TB, failpoint string) {
	tb.Helper()
	_, err := n.failpoint(http.MethodPut, failpoint, "sleep(3600000)")
	must(tb, err)
}

// RestartHeld starts the daemon again with a failpoint armed from its first instruction on, and waits until someone has
// come to it. It returns false if the daemon answers calls for a second and nobody has.
func (n *Node) RestartHeld(tb testing.TB, failpoint string) bool {
	tb.Helper()
	kept := n.options.Env
	n.options.Env = append(append([]string(nil), kept...), "GOFAIL_FAILPOINTS="+failpoint+"=sleep(3600000)")
	n.daemon = n.spawn(tb)
	n.options.Env = kept
	n.connect(tb)
	var answered time.Time
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n.Held(failpoint) {
			return true
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_, err := n.Runtime.Version(ctx, &runtimeapi.VersionRequest{})
		cancel()
		if err == nil && answered.IsZero() {
			answered = time.Now()
		}
		if !answered.IsZero() && time.Since(answered) > time.Second {
			break
		}
	}
	return false
}

// Held tells whether someone has come to the failpoint.
func (n *Node) Held(failpoint string) bool {
	body, err := n.failpoint(http.MethodGet, failpoint+"/count", "")
	count, _ := strconv.Atoi(strings.TrimSpace(body))
	return err == nil && count > 0
}

func (n *Node) failpoint(method, name, body string) (string, error) {
	req, err := http.NewRequest(method, "http://"+failpointAddress+"/"+name, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	r, err := n.HTTPClient().Do(req)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode >= 300 {
		err = fmt.Errorf("failpoint %s: %s: %s", name, r.Status, answer)
	}
	return string(answer), err
}
