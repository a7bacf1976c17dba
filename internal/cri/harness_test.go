package cri_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/cri"
	"github.com/qemulet/qemulet/internal/cri/critwin"
	"github.com/qemulet/qemulet/internal/cri/streaming"
	"github.com/qemulet/qemulet/internal/unixsock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is a real server on a real socket, over the twins, and its client.
type harness struct {
	runtimeapi.RuntimeServiceClient
	images  runtimeapi.ImageServiceClient
	conn    *grpc.ClientConn
	runtime *critwin.Runtime
	store   *critwin.Images
	log     *buffer
	ctx     context.Context
	stop    func() error
}

func newHarness(t *testing.T, change ...func(*cri.Options)) *harness {
	t.Helper()
	h := &harness{runtime: &critwin.Runtime{}, store: &critwin.Images{}, log: &buffer{}, ctx: t.Context()}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o := cri.Options{
		Runtime: h.runtime, Images: h.store, Log: log,
		Streams:      streaming.New(h.runtime, url.URL{Scheme: "http", Host: "127.0.0.1:1"}, log),
		Version:      "0.1.0-dev",
		Handlers:     []string{"", "qemulet"},
		CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS,
		Info:         func() map[string]string { return map[string]string{"config": "{}"} },
	}
	for _, c := range change {
		c(&o)
	}
	dir, err := os.MkdirTemp("", "cri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "cri.sock")
	l, err := unixsock.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cri.New(o).Serve(ctx, l) }()
	h.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	h.conn, err = grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.conn.Close() })
	h.RuntimeServiceClient = runtimeapi.NewRuntimeServiceClient(h.conn)
	h.images = runtimeapi.NewImageServiceClient(h.conn)
	return h
}

func sandboxConfig(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		LogDirectory: "/var/log/pods/" + name,
		Labels:       map[string]string{"app": name, "kind": "vm"},
		Annotations:  map[string]string{"kubernetes.io/target-runtime": "virtlet.cloud", "odd": "  \"two\nlines\" ü "},
	}
}

func containerConfig(name string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata:    &runtimeapi.ContainerMetadata{Name: name},
		Image:       &runtimeapi.ImageSpec{Image: "virtlet.cloud/cirros"},
		Labels:      map[string]string{"name": name, "kind": "vm"},
		Annotations: map[string]string{"hash": "1234"},
		Mounts:      []*runtimeapi.Mount{{ContainerPath: "/data", HostPath: "/srv/data", Readonly: true}},
		LogPath:     name + "/0.log",
		Tty:         true, Stdin: true,
		Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 1 << 27}},
	}
}

func (h *harness) sandbox(t *testing.T, name string) string {
	t.Helper()
	resp, err := h.RunPodSandbox(h.ctx, &runtimeapi.RunPodSandboxRequest{Config: sandboxConfig(name), RuntimeHandler: "qemulet"})
	if err != nil {
		t.Fatal(err)
	}
	return resp.PodSandboxId
}

func (h *harness) container(t *testing.T, sandbox, name string) string {
	t.Helper()
	resp, err := h.CreateContainer(h.ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, Config: containerConfig(name)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.ContainerId
}

func (h *harness) start(t *testing.T, id string) {
	t.Helper()
	if _, err := h.StartContainer(h.ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, want codes.Code, words ...string) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("code is %s, want %s (%v)", got, want, err)
	}
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not mention %q: %v", w, err)
		}
	}
}

// buffer is a log that tests read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
