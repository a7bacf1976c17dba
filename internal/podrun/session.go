package podrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/terminal"
)

// ending is closed when the VM has ended; err is why that is not known.
type ending struct {
	done chan struct{}
	err  error
}

// watchEnd tells when the VM has ended, or ctx; patience is waitForEnd's.
func (c *Client) watchEnd(ctx context.Context, container string, patience time.Duration) *ending {
	e := &ending{done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.err = c.waitForEnd(ctx, container, patience)
	}()
	return e
}

const (
	// pollInterval is how often a VM's state is asked for.
	pollInterval = 100 * time.Millisecond
	// strangersPatience is how long who only looks on waits for a daemon that
	// is away: it may be restarted, or have ended with its pods.
	strangersPatience = 3 * time.Second
	// ownersPatience is for who would leave a VM behind.
	ownersPatience = math.MaxInt64
)

// errRemoved is the end of a VM that somebody else has removed.
var errRemoved = errors.New("the pod was removed by somebody else")

// waitForEnd returns when the container is EXITED or ctx ends. CRI has no
// call that waits; kubelet polls too. A daemon that is away tells nothing
// about the VM, which runs on without it; it may be away for as long as
// patience.
func (c *Client) waitForEnd(ctx context.Context, id string, patience time.Duration) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for answered := time.Now(); ; {
		resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
		away := status.Code(err) == codes.Unavailable
		if !away {
			answered = time.Now()
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case status.Code(err) == codes.NotFound:
			return errRemoved
		case err != nil && !(away && time.Since(answered) < patience):
			return c.RPCError("asking for the VM's state", err)
		case resp.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_EXITED:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sayEnd tells how a VM ended and returns its exit code.
func (c *Client) sayEnd(ctx context.Context, container string, out io.Writer) (int32, error) {
	resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: container})
	if err != nil {
		return 0, c.RPCError("asking how the VM ended", err)
	}
	s := resp.GetStatus()
	fmt.Fprintf(out, "%s: %s (%s, exit code %d)\n", s.GetLabels()[labelPodName], s.GetMessage(), s.GetReason(), s.GetExitCode())
	return s.GetExitCode(), nil
}

// Session connects a person to the console of a VM that somebody else runs:
// leaving it, in any way, leaves the VM alone. It returns when the person has
// left, or the VM or ctx has ended. What is told about it goes to info.
func (c *Client) Session(ctx context.Context, name string, in *os.File, out, info io.Writer) error {
	p, err := c.FindVM(ctx, name)
	if err != nil {
		return err
	}
	if p.Container.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return fmt.Errorf("the VM of pod %q does not run, it is %s: `qemulet logs %s` shows what it printed, `qemulet rm %s` removes it",
			name, c.state(ctx, p.Container), name, name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &seat{in: in, out: out, keys: terminal.NewKeyboard(in)}
	if terminal.Interactive(in, out) {
		fmt.Fprintf(info, "attached to the console of %s; Ctrl-] leaves it, Enter shows a prompt\n", p.Sandbox.Metadata.Name)
	} else if in != nil && !terminal.IsTerminal(in) {
		s.piped = in
	}
	end := c.watchEnd(ctx, p.Container.Id, strangersPatience)
	why, err := s.visit(ctx, c, p.Container.Id, events{end: end.done})
	switch why {
	case leftByDetach:
		fmt.Fprintf(info, "\ndetached: left the console of %s, which runs on\n", p.Sandbox.Metadata.Name)
	case leftByEnd:
		fmt.Fprintln(info)
		if end.err != nil {
			return end.err
		}
		_, err = c.sayEnd(ctx, p.Container.Id, info)
	case leftByFailure:
		return fmt.Errorf("the console of %s was lost: %w", p.Sandbox.Metadata.Name, err)
	}
	return err
}
