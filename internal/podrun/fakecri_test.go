package podrun

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// fakeCRI is a daemon without machines: what it is asked for exists at once,
// and every call is written down. It stands for the states that a real daemon
// is hard to bring into; the rest is tested with the real one.
type fakeCRI struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer

	dir string // of the daemon's settings

	mu         sync.Mutex
	calls      []string
	sandboxes  []*runtimeapi.PodSandbox
	containers map[string]*runtimeapi.ContainerStatus
	conditions []*runtimeapi.RuntimeCondition
	fail       map[string]error      // by name of the call
	before     map[string]func()     // called before the call is answered
	made       func(context.Context) // called when a sandbox is there, before its id is told
	grace      int64                 // of the last StopContainer
}

// newFake starts it and returns a client.
func newFake(t *testing.T) (*fakeCRI, *Client) {
	t.Helper()
	f := &fakeCRI{containers: map[string]*runtimeapi.ContainerStatus{}, fail: map[string]error{}, before: map[string]func(){}}
	dir, err := os.MkdirTemp("", "pr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f.dir = dir
	socket := filepath.Join(dir, "cri.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(f.note))
	runtimeapi.RegisterRuntimeServiceServer(s, f)
	runtimeapi.RegisterImageServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	c, err := Connect(t.Context(), socket, filepath.Join(dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return f, c
}

// note writes a call down, and fails it when that is wanted.
func (f *fakeCRI) note(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	name := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	f.mu.Lock()
	f.calls = append(f.calls, name)
	err, before := f.fail[name], f.before[name]
	f.mu.Unlock()
	if before != nil {
		before()
	}
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// changes are the calls that change something.
func (f *fakeCRI) changes() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, c := range f.calls {
		if !strings.HasPrefix(c, "List") && !strings.HasSuffix(c, "Status") && c != "Version" && c != "Attach" {
			all = append(all, c)
		}
	}
	return strings.Join(all, " ")
}

func (f *fakeCRI) addPod(namespace, name, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sandboxes = append(f.sandboxes, &runtimeapi.PodSandbox{Id: id, Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: namespace}})
}

func (f *fakeCRI) addContainer(id string, state runtimeapi.ContainerState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = &runtimeapi.ContainerStatus{Id: id, State: state, Reason: "Completed", Message: "the guest powered off"}
}

func (f *fakeCRI) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{}, nil
}

func (f *fakeCRI) Status(context.Context, *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: f.conditions},
		Info:   map[string]string{"config": fmt.Sprintf(`{"state-dir":"/s","kubelet-root-dir":%q,"objects-dir":%q}`, f.dir+"/kubelet", f.dir+"/objects")},
	}, nil
}

func (f *fakeCRI) ImageStatus(context.Context, *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{Id: "sha256:x"}}, nil
}

func (f *fakeCRI) ListPodSandbox(_ context.Context, r *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &runtimeapi.ListPodSandboxResponse{}
	for _, s := range f.sandboxes {
		if uid := r.GetFilter().GetLabelSelector()[labelPodUID]; uid == "" || uid == s.Labels[labelPodUID] {
			resp.Items = append(resp.Items, s)
		}
	}
	return resp, nil
}

func (f *fakeCRI) RunPodSandbox(ctx context.Context, r *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	f.mu.Lock()
	f.sandboxes = append(f.sandboxes, &runtimeapi.PodSandbox{Id: "sandbox", Metadata: r.Config.Metadata, Labels: r.Config.Labels})
	f.mu.Unlock()
	if f.made != nil {
		f.made(ctx)
	}
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: "sandbox"}, nil
}

func (f *fakeCRI) PodSandboxStatus(context.Context, *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	return &runtimeapi.PodSandboxStatusResponse{
		Status: &runtimeapi.PodSandboxStatus{Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.1.2.3"}},
		Info:   map[string]string{"counters": `[{"rxBytes":7}]`, "odd": "not JSON"},
	}, nil
}

func (f *fakeCRI) StopPodSandbox(context.Context, *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (f *fakeCRI) RemovePodSandbox(_ context.Context, r *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sandboxes = nil
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (f *fakeCRI) CreateContainer(context.Context, *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_CREATED)
	return &runtimeapi.CreateContainerResponse{ContainerId: "vm"}, nil
}

func (f *fakeCRI) StartContainer(context.Context, *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	f.addContainer("vm", runtimeapi.ContainerState_CONTAINER_RUNNING)
	return &runtimeapi.StartContainerResponse{}, nil
}

func (f *fakeCRI) StopContainer(_ context.Context, r *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	f.addContainer(r.ContainerId, runtimeapi.ContainerState_CONTAINER_EXITED)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grace = r.Timeout
	return &runtimeapi.StopContainerResponse{}, nil
}

func (f *fakeCRI) ListContainers(context.Context, *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := &runtimeapi.ListContainersResponse{}
	for id, c := range f.containers {
		resp.Containers = append(resp.Containers, &runtimeapi.Container{Id: id, State: c.State})
	}
	return resp, nil
}

func (f *fakeCRI) ContainerStatus(_ context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[r.ContainerId]
	if c == nil {
		return nil, status.Errorf(codes.NotFound, "container %q: not found", r.ContainerId)
	}
	return &runtimeapi.ContainerStatusResponse{Status: c}, nil
}

func (f *fakeCRI) Attach(context.Context, *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	return nil, status.Error(codes.Internal, "no console here")
}
