package streaming

import (
	"context"
	"io"
	"net"

	"github.com/qemulet/qemulet/internal/cri/plain"
	"github.com/qemulet/qemulet/internal/runtime"
)

// plainly is a Runtime whose errors are as people are told them: kubectl prints
// what a session ends with, and there is no code that goes with it.
type plainly struct{ Runtime }

func (p plainly) Attach(ctx context.Context, id string, in io.Reader, out io.Writer) error {
	return plain.Error(p.Runtime.Attach(ctx, id, in, out))
}

func (p plainly) Exec(ctx context.Context, id string, command []string, input []byte) (runtime.ExecResult, error) {
	got, err := p.Runtime.Exec(ctx, id, command, input)
	return got, plain.Error(err)
}

func (p plainly) DialPod(ctx context.Context, sandboxID string, port int32) (net.Conn, error) {
	conn, err := p.Runtime.DialPod(ctx, sandboxID, port)
	return conn, plain.Error(err)
}
