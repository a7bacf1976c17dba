package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qemulet/qemulet/internal/config"
)

// cluster is an API server that has settings, and tells of their changes.
type cluster struct {
	*httptest.Server
	mu       sync.Mutex
	version  int
	changed  chan struct{} // closed by the next change
	mappings map[string]string
	data     string // the ConfigMap's, "" when there is none
	labels   string
	broken   bool
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{changed: make(chan struct{}), mappings: map[string]string{}, labels: "{}", version: 1}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// change changes something and tells those that watch.
func (c *cluster) change(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do()
	c.version++
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if seen := r.URL.Query().Get("resourceVersion"); r.URL.Query().Get("watch") != "" {
		c.watch(w, r, seen)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch path := r.URL.Path; {
	case c.broken:
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"InternalError","code":500,"message":"etcd is away"}`)
	case strings.HasSuffix(path, "/virtletconfigmappings"):
		var items []string
		for name, spec := range c.mappings {
			items = append(items, fmt.Sprintf(`{"apiVersion":"virtlet.k8s/v1","kind":"VirtletConfigMapping","metadata":{"name":%q},"spec":%s}`, name, spec))
		}
		c.list(w, "virtlet.k8s/v1", "VirtletConfigMappingList", items...)
	case strings.HasSuffix(path, "/configmaps"):
		if c.data == "" {
			c.list(w, "v1", "ConfigMapList")
			return
		}
		c.list(w, "v1", "ConfigMapList", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"virtlet-config"},"data":`+c.data+`}`)
	case path == "/api/v1/nodes/node-1":
		io.WriteString(w, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-1","labels":`+c.labels+`}}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	}
}

func (c *cluster) list(w io.Writer, version, kind string, items ...string) {
	fmt.Fprintf(w, `{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d"},"items":[%s]}`, version, kind, c.version, strings.Join(items, ","))
}

func (c *cluster) watch(w http.ResponseWriter, r *http.Request, seen string) {
	c.mu.Lock()
	changed, now := c.changed, strconv.Itoa(c.version)
	c.mu.Unlock()
	w.(http.Flusher).Flush()
	if now == seen {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
	io.WriteString(w, `{"type":"MODIFIED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","resourceVersion":"9"}}}`+"\n")
}

// node is a node's own part of the settings.
type nodeOf struct {
	t    *testing.T
	dir  string
	file string
	log  *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newNodeOf(t *testing.T, server string) *nodeOf {
	n := &nodeOf{t: t, dir: t.TempDir(), log: &syncBuffer{}}
	n.file = filepath.Join(n.dir, "config.yaml")
	n.write(n.file, "")
	n.write(filepath.Join(n.dir, "kubeconfig"), fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}],
clusters: [{name: k, cluster: {server: %q}}], users: [{name: u, user: {token: t}}]}`, server))
	return n
}

func (n *nodeOf) write(path, text string) {
	n.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *nodeOf) load(objects ...config.Object) (*config.Config, error) {
	return config.Load(nil, []string{"QEMULET_CONFIG=" + n.file, "QEMULET_STATE_DIR=" + n.dir, "QEMULET_KUBECONFIG=" + n.dir + "/kubeconfig", "KUBE_NODE_NAME=node-1"}, objects...)
}

func (n *nodeOf) open() *Settings {
	n.t.Helper()
	s, err := OpenSettings(n.t.Context(), n.load, slog.New(slog.NewTextHandler(n.log, nil)), &slog.LevelVar{})
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// follow has the settings follow the cluster for the time of the test. What is
// applied arrives.
func (n *nodeOf) follow(s *Settings) <-chan *config.Config {
	n.t.Helper()
	applied := make(chan *config.Config, 10)
	s.setApply(func(c *config.Config) { applied <- c })
	<-applied // how it is already
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.follow(ctx) }()
	n.t.Cleanup(func() { cancel(); <-done })
	return applied
}

func next(t *testing.T, applied <-chan *config.Config) *config.Config {
	t.Helper()
	select {
	case c := <-applied:
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("nothing changed")
		return nil
	}
}

func TestSettingsFollowTheCluster(t *testing.T) {
	c := newCluster(t)
	c.mappings["all"] = `{"config": {"rawDevices": "sd*"}}`
	c.mappings["ssd"] = `{"nodeSelector": {"disk": "ssd"}, "priority": 5, "config": {"rawDevices": "nvme*"}}`
	c.labels = `{"disk": "ssd"}`
	c.data = `{"cpu-model": "host-model"}`
	n := newNodeOf(t, c.URL)
	s := n.open()
	if got := s.Config(); got.RawDevices != "nvme*" || got.CPUModel != "host-model" {
		t.Errorf("at the start: %+v", got)
	}
	applied := n.follow(s)
	c.change(func() {
		c.mappings["ssd"] = `{"nodeSelector": {"disk": "ssd"}, "config": {"logLevel": 5, "parallel-pulls": 9}}`
	})
	got := next(t, applied)
	if got.RawDevices != "sd*" || got.LogLevel != "debug" || got.ParallelPulls != 3 || s.level.Level() != slog.LevelDebug {
		t.Errorf("%+v", got)
	}
	if p := got.Pending(); len(p) != 1 || p[0].Name != "parallel-pulls" || p[0].Value != "9" {
		t.Errorf("pending %v", p)
	}
	for _, want := range []string{"setting changed", "name=raw-devices value=sd*", "setting waits for a restart", "name=parallel-pulls value=9"} {
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("no %q in %s", want, n.log)
		}
	}
	// A daemon that starts now has it.
	if again := n.open().Config(); again.ParallelPulls != 9 || len(again.Pending()) != 0 {
		t.Errorf("after a restart: %+v", again)
	}
}

// What is wrong changes nothing, and is said; what is right again counts.
func TestBadSettingsOfTheCluster(t *testing.T) {
	c := newCluster(t)
	c.mappings["a"] = `{"config": {"rawDevices": "sd*"}}`
	n := newNodeOf(t, c.URL)
	s := n.open()
	applied := n.follow(s)
	c.change(func() { c.mappings["a"] = `{"config": {"rawDevices": "vd*", "logLevel": -3}}` })
	until(t, "the log says it", func() bool { return strings.Contains(n.log.String(), "from 0 on is accepted") })
	if got := s.Config(); got.RawDevices != "sd*" {
		t.Errorf("%+v", got)
	}
	c.change(func() { c.mappings["a"] = `{"config": {"rawDevices": "vd*"}}` })
	if got := next(t, applied); got.RawDevices != "vd*" {
		t.Errorf("%+v", got)
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// A node that starts while the API server is away has what was good last.
func TestSettingsWithoutTheCluster(t *testing.T) {
	c := newCluster(t)
	n := newNodeOf(t, c.URL)
	c.mappings["a"] = `{"config": {"rawDevices": "sd*"}}`
	s := n.open()
	n.follow(s)
	until(t, "they are kept", func() bool { _, err := os.Stat(savedPath(s.Config())); return err == nil })
	c.change(func() { c.broken = true })
	if got := n.open().Config(); got.RawDevices != "sd*" || !strings.Contains(n.log.String(), "etcd is away") {
		t.Errorf("%+v, log %s", got, n.log)
	}
	n.write(savedPath(s.Config()), "{")
	if got := n.open().Config(); got.RawDevices != "loop*" || !strings.Contains(n.log.String(), "nor are those that were good last") {
		t.Errorf("%+v, log %s", got, n.log)
	}
	n.write(savedPath(s.Config()), `{"node": "another", "objects": [{"name": "x", "config": {"rawDevices": "x"}}]}`)
	if got := n.open().Config(); got.RawDevices != "loop*" {
		t.Errorf("those of another node: %+v", got)
	}
}

func TestReload(t *testing.T) {
	c := newCluster(t)
	c.mappings["a"] = `{"config": {"rawDevices": "sd*"}}`
	n := newNodeOf(t, c.URL)
	s := n.open()
	n.write(n.file, "cpu-model: qemu64\nrun-dir: /elsewhere\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := s.Config(); got.CPUModel != "qemu64" || got.RawDevices != "sd*" || got.RunDir == "/elsewhere" || len(got.Pending()) == 0 {
		t.Errorf("%+v", got)
	}
	n.write(n.file, "cpu-modle: qemu64\n")
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "cpu-modle: no such setting") {
		t.Errorf("got %v", err)
	}
	if got := s.Config(); got.CPUModel != "qemu64" {
		t.Errorf("%+v", got)
	}
	if err := FixedSettings(s.Config()).Reload(); err != nil {
		t.Error(err)
	}
}

// A node whose labels cannot be asked for does not take settings that hang on
// them.
func TestSettingsOfAnUnknownNode(t *testing.T) {
	c := newCluster(t)
	c.mappings["a"] = `{"nodeSelector": {"a": "b"}, "config": {"rawDevices": "sd*"}}`
	n := newNodeOf(t, c.URL)
	load := n.load
	s, err := OpenSettings(t.Context(), func(o ...config.Object) (*config.Config, error) {
		cfg, err := load(o...)
		if err == nil {
			cfg.NodeName = "node-2"
		}
		return cfg, err
	}, slog.New(slog.NewTextHandler(n.log, nil)), nil)
	if err != nil || s.Config().RawDevices != "loop*" || !strings.Contains(n.log.String(), `the cluster has no node \"node-2\"`) {
		t.Errorf("%v, log %s", err, n.log)
	}
}
