package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/e2e/node"
)

const (
	primaryContainers = 300
	proxyRounds       = 401
)

// BenchmarkProxy measures what the proxy adds to the calls of an ordinary node's runtime. That runtime is one that only
// knows its containers, so that nothing of its own hides the difference; the VM runtime beside it is the real one.
func BenchmarkProxy(b *testing.B) {
	n := node.Start(b, node.Options{Args: []string{"--log-level", "info"}})
	primary, proxy := filepath.Join(n.Dir, "p.sock"), filepath.Join(n.Dir, "c.sock")
	startPrimary(b, primary)
	startProxy(b, primary, n.Socket(), proxy)
	direct, proxied := dialCRI(b, primary), dialCRI(b, proxy)
	for _, call := range []struct {
		what string
		make func(context.Context, runtimeapi.RuntimeServiceClient) error
	}{
		{"Version", func(ctx context.Context, c runtimeapi.RuntimeServiceClient) error {
			_, err := c.Version(ctx, &runtimeapi.VersionRequest{})
			return err
		}},
		{"ContainerStatus", func(ctx context.Context, c runtimeapi.RuntimeServiceClient) error {
			_, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: primaryID(7)})
			return err
		}},
		{fmt.Sprintf("ListContainers of %d", primaryContainers), func(ctx context.Context, c runtimeapi.RuntimeServiceClient) error {
			list, err := c.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
			if err == nil && len(list.GetContainers()) != primaryContainers {
				err = fmt.Errorf("%d containers", len(list.GetContainers()))
			}
			return err
		}},
	} {
		var with, without samples
		for range proxyRounds {
			without.addTime(timed(b, func() error { return call.make(context.Background(), direct) }))
			with.addTime(timed(b, func() error { return call.make(context.Background(), proxied) }))
		}
		reportProxy(b, call.what, with, without)
	}
}

// reportProxy holds small calls to what is added to them, and lists to their ratio.
func reportProxy(b *testing.B, what string, with, without samples) {
	b.Helper()
	r := row{what: what + " through the proxy", unit: "ms", measured: with, baseline: without, beside: "direct"}
	if strings.HasPrefix(what, "List") {
		r.goal = goal{ratio: 1.2}
		r.report(b)
		r.metric(b, "proxied-list")
		return
	}
	r.report(b)
	added := with.combine(without, func(a, b float64) float64 { return a - b })
	row{what: "— what the proxy adds to it", unit: "ms", measured: samples{added.median()}, goal: goal{value: 0.3}}.report(b)
}

// primary is a runtime with many containers.
type primary struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	all []*runtimeapi.Container
}

// primarySocket is the environment variable that makes this program the primary: a runtime is a process of its own.
const primarySocket = "BENCH_PRIMARY_SOCKET"

func startPrimary(b *testing.B, socket string) {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), primarySocket+"="+socket)
	startUntilEnd(b, cmd)
}

func servePrimary(socket string) error {
	p := &primary{}
	for i := range primaryContainers {
		p.all = append(p.all, ordinaryContainer(i))
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, p)
	return server.Serve(l)
}

func primaryID(i int) string { return fmt.Sprintf("%064x", 0xa000+i) }

// ordinaryContainer is about as long as kubelet's containers are.
func ordinaryContainer(i int) *runtimeapi.Container {
	return &runtimeapi.Container{
		Id: primaryID(i), PodSandboxId: primaryID(i + primaryContainers), Metadata: &runtimeapi.ContainerMetadata{Name: "server"},
		Image: &runtimeapi.ImageSpec{Image: "sha256:" + primaryID(1)}, ImageRef: "sha256:" + primaryID(1), ImageId: "sha256:" + primaryID(1),
		State: runtimeapi.ContainerState_CONTAINER_RUNNING, CreatedAt: time.Now().UnixNano(),
		Labels: map[string]string{
			"io.kubernetes.container.name": "server", "io.kubernetes.pod.name": fmt.Sprintf("deployment-5c9f7d8b6-%05d", i),
			"io.kubernetes.pod.namespace": "production", "io.kubernetes.pod.uid": "6f1c1d2e-8a3b-4c5d-9e7f-012345678901",
		},
		Annotations: map[string]string{
			"io.kubernetes.container.hash": "a1b2c3d4", "io.kubernetes.container.restartCount": "0", "io.kubernetes.pod.terminationGracePeriod": "30",
			"io.kubernetes.container.terminationMessagePath": "/dev/termination-log", "io.kubernetes.container.terminationMessagePolicy": "File",
			"io.kubernetes.container.ports": `[{"name":"http","containerPort":8080,"protocol":"TCP"}]`,
		},
	}
}

func (p *primary) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "ordinary", RuntimeVersion: "1.0.0", RuntimeApiVersion: "v1"}, nil
}

func (p *primary) ListContainers(context.Context, *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	return &runtimeapi.ListContainersResponse{Containers: p.all}, nil
}

func (p *primary) ContainerStatus(_ context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	c := p.all[0]
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
		Id: r.GetContainerId(), Metadata: c.Metadata, State: c.State, CreatedAt: c.CreatedAt, StartedAt: c.CreatedAt, Image: c.Image, ImageRef: c.ImageRef,
		Labels: c.Labels, Annotations: c.Annotations, LogPath: "/var/log/pods/production_server/server/0.log",
	}}, nil
}

// startProxy starts the proxy's own program.
func startProxy(b *testing.B, primary, vm, socket string) {
	b.Helper()
	startUntilEnd(b, exec.Command(node.Binary(b, "criproxy"), "-connect", primary+",virtlet.cloud:"+vm, "-listen", socket, "-state-dir", b.TempDir()))
}

// startUntilEnd starts a program that ends with the benchmark.
func startUntilEnd(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	cmd.Stderr = os.Stderr
	must(b, cmd.Start())
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// dialCRI returns when the runtime at a socket has answered.
func dialCRI(b *testing.B, socket string) runtimeapi.RuntimeServiceClient {
	b.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(node.QuickReconnect),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	must(b, err)
	b.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	_, err = client.Version(ctx, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true))
	must(b, err)
	return client
}
