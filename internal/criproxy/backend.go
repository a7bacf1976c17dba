package criproxy

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxMessage is the largest message that is relayed, in bytes. kubelet's own
// limit is 16 MiB; both runtimes together may fill it.
const maxMessage = 64 << 20

// window is how many bytes a runtime may send ahead: a list of a full node.
const window = 4 << 20

// buffer is how many bytes are read and written at once.
const buffer = 256 << 10

// backend is a runtime behind the proxy. Its connection is made when it is
// needed, and again when it was lost.
type backend struct {
	socket string
	conn   *grpc.ClientConn
}

func newBackend(socket string) (*backend, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		// A whole list arrives without waiting for the window to be opened again.
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithReadBufferSize(buffer),
		// A runtime is back within a second of its restart, not after minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.1, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, err
	}
	return &backend{socket: socket, conn: conn}, nil
}

// runtime and images are for the calls that the proxy makes by itself.
func (b *backend) runtime() runtimeapi.RuntimeServiceClient {
	return runtimeapi.NewRuntimeServiceClient(b.conn)
}

func (b *backend) images() runtimeapi.ImageServiceClient {
	return runtimeapi.NewImageServiceClient(b.conn)
}

// away tells that the last attempt to reach the runtime failed.
func (b *backend) away() bool {
	state := b.conn.GetState()
	return state == connectivity.TransientFailure || state == connectivity.Connecting
}

// invoke makes a call with one answer.
func (b *backend) invoke(ctx context.Context, method string, in *frame, options ...grpc.CallOption) (*frame, error) {
	out := new(frame)
	if err := b.conn.Invoke(ctx, method, in, out, options...); err != nil {
		return nil, err
	}
	return out, nil
}
