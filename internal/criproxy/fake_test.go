package criproxy

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/ids"
	"github.com/qemulet/qemulet/internal/unixsock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a runtime that keeps what it is told in memory.
type fake struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	name, socket string
	lead         string // of its ids
	server       *grpc.Server
	l            net.Listener

	mu         sync.Mutex
	calls      []string
	seen       metadata.MD // of the last call
	deadline   time.Time   // likewise
	made       int
	sandboxes  []*runtimeapi.PodSandbox
	containers []*runtimeapi.Container
	images     []*runtimeapi.Image
	statusErr  error         // of ContainerStatus
	hang       chan struct{} // lists wait for it
	events     chan *runtimeapi.ContainerEventResponse
}

func newFake(t *testing.T, name, lead string) *fake {
	f := &fake{name: name, lead: lead, socket: filepath.Join(shortDir(t), name+".sock"), events: make(chan *runtimeapi.ContainerEventResponse, 10)}
	f.start(t)
	t.Cleanup(f.stop)
	return f
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cp")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (f *fake) start(t *testing.T) {
	t.Helper()
	f.l = listen(t, f.socket)
	f.server = grpc.NewServer(grpc.WaitForHandlers(true), grpc.UnaryInterceptor(f.note))
	runtimeapi.RegisterRuntimeServiceServer(f.server, f)
	runtimeapi.RegisterImageServiceServer(f.server, f)
	go f.server.Serve(f.l)
}

// stop is what kill -9 looks like from outside.
func (f *fake) stop() {
	f.server.Stop()
	f.l.Close() // a server that has not begun to serve does not
}

func (f *fake) note(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	f.calls = append(f.calls, filepath.Base(info.FullMethod))
	f.seen, _ = metadata.FromIncomingContext(ctx)
	f.deadline, _ = ctx.Deadline()
	hang := f.hang
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs("from", f.name))
	return next(ctx, req)
}

// called tells which calls there were since it was asked last.
func (f *fake) called() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) newID() string {
	f.made++
	return f.lead + strings.Repeat("0", ids.Len-len(f.lead)-2) + string(rune('a'+f.made)) + "0"
}

func (f *fake) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: f.name, RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

func (f *fake) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{{Type: "RuntimeReady", Status: true}, {Type: "NetworkReady", Status: true}}},
		RuntimeHandlers: []*runtimeapi.RuntimeHandler{{Name: ""}, {Name: f.name,
			Features: &runtimeapi.RuntimeHandlerFeatures{UserNamespaces: true}}},
		Info: map[string]string{"config": f.name},
	}, nil
}

func (f *fake) RunPodSandbox(_ context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &runtimeapi.PodSandbox{Id: f.newID(), Metadata: r.GetConfig().GetMetadata(), CreatedAt: 1, Labels: r.GetConfig().GetLabels()}
	f.sandboxes = append(f.sandboxes, s)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: s.Id}, nil
}

func (f *fake) RemovePodSandbox(_ context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sandboxes = slices.DeleteFunc(f.sandboxes, func(s *runtimeapi.PodSandbox) bool { return s.Id == r.PodSandboxId })
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (f *fake) CreateContainer(_ context.Context, r *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &runtimeapi.Container{Id: f.newID(), PodSandboxId: r.PodSandboxId, Metadata: r.GetConfig().GetMetadata(), CreatedAt: 1}
	f.containers = append(f.containers, c)
	return &runtimeapi.CreateContainerResponse{ContainerId: c.Id}, nil
}

func (f *fake) StartContainer(_ context.Context, r *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	f.state(r.ContainerId, runtimeapi.ContainerState_CONTAINER_RUNNING)
	return &runtimeapi.StartContainerResponse{}, nil
}

func (f *fake) state(id string, state runtimeapi.ContainerState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.containers {
		if c.Id == id {
			c.State = state
		}
	}
}

func (f *fake) ContainerStatus(context.Context, *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.statusErr != nil {
		return nil, f.statusErr
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{ImageRef: f.name}}, nil
}

func (f *fake) PodSandboxStatus(context.Context, *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	return nil, status.Error(codes.NotFound, "gone")
}

func (f *fake) ListPodSandbox(context.Context, *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &runtimeapi.ListPodSandboxResponse{Items: slices.Clone(f.sandboxes)}, nil
}

func (f *fake) ListContainers(context.Context, *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &runtimeapi.ListContainersResponse{Containers: slices.Clone(f.containers)}, nil
}

func (f *fake) StreamContainers(_ *runtimeapi.StreamContainersRequest, s grpc.ServerStreamingServer[runtimeapi.StreamContainersResponse]) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.name == "vm" {
		return status.Error(codes.Unimplemented, "no streams")
	}
	return s.Send(&runtimeapi.StreamContainersResponse{Containers: f.containers})
}

func (f *fake) GetContainerEvents(_ *runtimeapi.GetEventsRequest, s grpc.ServerStreamingServer[runtimeapi.ContainerEventResponse]) error {
	for {
		select {
		case <-s.Context().Done():
			return nil
		case e, ok := <-f.events:
			if !ok {
				return nil
			}
			if err := s.Send(e); err != nil {
				return err
			}
		}
	}
}

func (f *fake) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &runtimeapi.ListImagesResponse{Images: slices.Clone(f.images)}, nil
}

func (f *fake) ImageStatus(_ context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.images {
		if i.Id == r.GetImage().GetImage() {
			return &runtimeapi.ImageStatusResponse{Image: i}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (f *fake) PullImage(context.Context, *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	return &runtimeapi.PullImageResponse{ImageRef: f.name}, nil
}

func (f *fake) RemoveImage(context.Context, *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (f *fake) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{
		FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: "/" + f.name}, UsedBytes: &runtimeapi.UInt64Value{Value: 1},
	}}}, nil
}

func (f *fake) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	return &runtimeapi.ListMetricDescriptorsResponse{Descriptors: []*runtimeapi.MetricDescriptor{{Name: "shared", Help: f.name}, {Name: f.name}}}, nil
}

// node is a proxy with its two runtimes.
type node struct {
	primary, vm *fake
	proxy       *Proxy
	options     Options
	socket      string
	conn        *grpc.ClientConn
	runtime     runtimeapi.RuntimeServiceClient
	images      runtimeapi.ImageServiceClient
}

func newNode(t *testing.T) *node {
	n := &node{primary: newFake(t, "primary", "aaaa"), vm: newFake(t, "vm", ids.Lead)}
	n.socket = filepath.Join(shortDir(t), "proxy.sock")
	n.options = Options{
		Primary: n.primary.socket, VM: n.vm.socket, RuntimeID: "virtlet.cloud", Handlers: []string{"virtlet"},
		StateDir: t.TempDir(), Patience: 2 * time.Second, Log: discard,
	}
	n.startProxy(t)
	t.Cleanup(func() { n.stopProxy(t) })
	return n
}

func (n *node) startProxy(t *testing.T) {
	t.Helper()
	var err error
	n.proxy, err = New(n.options)
	check(t, err)
	l, err := unixsock.Listen(n.socket, 0o600)
	check(t, err)
	go n.proxy.Serve(l)
	n.conn, err = grpc.NewClient("unix://"+n.socket, insecureCredentials, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	check(t, err)
	n.runtime, n.images = runtimeapi.NewRuntimeServiceClient(n.conn), runtimeapi.NewImageServiceClient(n.conn)
}

func (n *node) stopProxy(t *testing.T) {
	t.Helper()
	check(t, n.conn.Close())
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	check(t, n.proxy.Stop(ctx))
}

var vmPod = map[string]string{TargetRuntimeAnnotation: "virtlet.cloud"}

// pod runs a pod with a container that runs, and returns their ids.
func (n *node) pod(t *testing.T, name string, annotations map[string]string) (sandbox, container string) {
	t.Helper()
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: name}, Annotations: annotations, Labels: map[string]string{"pod": name},
	}
	s, err := n.runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: cfg})
	check(t, err)
	c, err := n.runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: s.PodSandboxId,
		Config: &runtimeapi.ContainerConfig{Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: "sha256:1"}}})
	check(t, err)
	_, err = n.runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId})
	check(t, err)
	return s.PodSandboxId, c.ContainerId
}

func (n *node) containers(t *testing.T) []string {
	t.Helper()
	got, err := n.runtime.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	check(t, err)
	var all []string
	for _, c := range got.GetContainers() {
		all = append(all, c.GetId())
	}
	return all
}

func (n *node) sandboxes(t *testing.T, f *runtimeapi.PodSandboxFilter) []string {
	t.Helper()
	got, err := n.runtime.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{Filter: f})
	check(t, err)
	var all []string
	for _, s := range got.GetItems() {
		all = append(all, s.GetMetadata().GetName())
	}
	return all
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func fails(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("%v: want %v", err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%v: does not say %q", err, word)
		}
	}
}

func listen(t *testing.T, socket string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", socket)
	check(t, err)
	return l
}
