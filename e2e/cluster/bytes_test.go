package cluster

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

// rawCodec moves encoded messages without decoding them.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// answered is what a runtime answered to a call: a message or an error.
type answered struct {
	message []byte
	err     error
}

func (a answered) equal(b answered) bool {
	return bytes.Equal(a.message, b.message) && proto.Equal(status.Convert(a.err).Proto(), status.Convert(b.err).Proto())
}

// tape repeats what a runtime once answered. No two answers of a runtime are the same: maps are encoded in any order.
type tape map[string]answered

func (p tape) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	var request []byte
	if err := stream.RecvMsg(&request); err != nil {
		return err
	}
	a, recorded := p[method+string(request)]
	if !recorded {
		return status.Errorf(codes.Internal, "%s was not recorded", method)
	}
	if a.err != nil {
		return a.err
	}
	return stream.SendMsg(&a.message)
}

// What containerd answers comes out of the proxy byte for byte, errors too. The node's status is what the VM runtime adds to.
func TestPrimarysBytes(t *testing.T) {
	c := theCluster(t)
	c.Apply(t, bystander)
	pod := c.WaitReady(t, "app=bystander", 1, bootTime)[0]
	container := pod.Status.ContainerStatuses[0].ContainerID[len("containerd://"):]
	direct := dialRaw(t, c.ContainerdSocket())
	type call struct {
		method  string
		request proto.Message
	}
	const runtimeService, imageService = "/runtime.v1.RuntimeService/", "/runtime.v1.ImageService/"
	calls := []call{
		{runtimeService + "Version", &runtimeapi.VersionRequest{}},
		{runtimeService + "Status", &runtimeapi.StatusRequest{Verbose: true}},
		{runtimeService + "RuntimeConfig", &runtimeapi.RuntimeConfigRequest{}},
		{runtimeService + "ListPodSandbox", &runtimeapi.ListPodSandboxRequest{}},
		{runtimeService + "ListContainers", &runtimeapi.ListContainersRequest{}},
		{runtimeService + "ListContainers", &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{Id: container}}},
		{runtimeService + "ListContainerStats", &runtimeapi.ListContainerStatsRequest{}},
		{runtimeService + "ListPodSandboxStats", &runtimeapi.ListPodSandboxStatsRequest{}},
		{runtimeService + "ContainerStatus", &runtimeapi.ContainerStatusRequest{ContainerId: container, Verbose: true}},
		{runtimeService + "ContainerStatus", &runtimeapi.ContainerStatusRequest{ContainerId: "nosuch"}},
		{runtimeService + "StartContainer", &runtimeapi.StartContainerRequest{ContainerId: container}},
		{runtimeService + "ExecSync", &runtimeapi.ExecSyncRequest{ContainerId: container, Cmd: []string{"echo", "hello"}}},
		{runtimeService + "NoSuchMethod", &runtimeapi.VersionRequest{Version: container}},
		{imageService + "ListImages", &runtimeapi.ListImagesRequest{}},
		{imageService + "ImageStatus", &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: BusyboxImage}}},
		{imageService + "ImageFsInfo", &runtimeapi.ImageFsInfoRequest{}},
	}
	recorded := tape{}
	for _, one := range calls {
		request, err := proto.Marshal(one.request)
		must(t, err)
		recorded[one.method+string(request)] = invokeRaw(direct, one.method, request)
	}
	through := dialRaw(t, c.proxyOfTape(t, recorded))
	for _, one := range calls {
		request, err := proto.Marshal(one.request)
		must(t, err)
		want, got := recorded[one.method+string(request)], invokeRaw(through, one.method, request)
		if one.method == runtimeService+"Status" {
			got.message = got.message[:min(len(got.message), len(want.message))]
		}
		if !got.equal(want) {
			t.Errorf("%s(%v) through the proxy: %q, %v\nwithout: %q, %v", one.method, one.request, got.message, got.err, want.message, want.err)
		}
	}
}

// proxyOfTape starts a proxy whose primary is a tape, without a VM runtime, and returns its socket.
func (c *Cluster) proxyOfTape(t *testing.T, recorded tape) string {
	t.Helper()
	l, err := net.Listen("unix", c.Path("tape.sock"))
	must(t, err)
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(recorded.handle))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	socket := c.Path("tape-proxy.sock")
	proxy := c.component("criproxy-of-tape", nil, program(t, "criproxy"), "-connect", c.Path("tape.sock")+",virtlet.cloud:"+c.Path("nothing.sock"),
		"-listen", socket, "-state-dir", c.Path("tape"))
	proxy.Start(t)
	t.Cleanup(proxy.Kill9)
	return socket
}

func dialRaw(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(node.QuickReconnect),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{}), grpc.WaitForReady(true)))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func invokeRaw(conn *grpc.ClientConn, method string, request []byte) (a answered) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a.err = conn.Invoke(ctx, method, &request, &a.message)
	return a
}
