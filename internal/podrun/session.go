package podrun

import (
	"context"
	"io"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// left says why a person is no longer at a console.
type left int

const (
	leftByEnd     left = iota // the VM ended
	leftBySignal              // the person wants the pod to end
	leftByDetach              // the person typed Ctrl-]
	leftByFailure             // the session broke
)

// ending is closed when the VM has ended; err is why that is not known.
type ending struct {
	done chan struct{}
	err  error
}

// session shows the console until the VM ends (false) or the person wants the
// pod to end (true). Ctrl-] leaves the console, not the pod.
func (r *runner) session(ctx context.Context) (interrupted bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := &ending{done: make(chan struct{})}
	go func() {
		end.err = r.waitForEnd(ctx, r.container)
		close(end.done)
	}()
	r.sayHow()
	for {
		why, err := r.console(ctx, end)
		if why == leftByFailure {
			r.say("the console was lost: %v", err)
			why = leftByDetach
		}
		if why == leftByDetach {
			r.say("\nleft the console of %s, which runs on: Enter returns to it, Ctrl-C ends the pod", r.name())
			why = r.away(ctx, end)
		}
		switch why {
		case leftByEnd:
			return false, end.err
		case leftBySignal:
			r.say("powering the guest off (at most %ds); Ctrl-C again ends it by force", r.m.gracePeriod())
			return true, nil
		}
	}
}

func (r *runner) sayHow() {
	if IsTerminal(r.In) {
		r.say("this is the console of %s; Ctrl-] leaves it", r.name())
	} else {
		r.say("this is the console of %s; an interruption (Ctrl-C) ends the pod", r.name())
	}
}

// console connects the person to the guest once. What is not a terminal is
// not passed to the guest: the end of a pipe is no wish of a person.
func (r *runner) console(ctx context.Context, end *ending) (left, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var in io.Reader
	var detached <-chan struct{}
	if IsTerminal(r.In) {
		restore, err := rawTerminal(r.In)
		if err != nil {
			return leftByFailure, err
		}
		defer restore()
		in, detached = r.keys.reader(ctx)
	}
	closed := make(chan error, 1)
	go func() { closed <- r.Console(ctx, r.container, in, r.Out) }()
	why, err := r.wait(ctx, end, detached, closed)
	if why != leftByFailure {
		cancel()
		<-closed // the terminal is ours again
	}
	return why, err
}

// consoleGrace is how long a VM may take to be EXITED after its console closed.
const consoleGrace = 10 * time.Second

func (r *runner) wait(ctx context.Context, end *ending, detached <-chan struct{}, closed chan error) (left, error) {
	var cause error
	var timeout <-chan time.Time
	lost := closed
	for {
		select {
		case <-end.done:
			return leftByEnd, nil
		case <-detached:
			return leftByDetach, nil
		case <-r.Interrupted:
			return leftBySignal, nil
		case <-ctx.Done():
			return leftBySignal, nil
		case cause = <-lost:
			// Most often because the VM ended, which is told in a moment.
			closed <- cause
			lost, timeout = nil, time.After(consoleGrace)
		case <-timeout:
			return leftByFailure, cause
		}
	}
}

// away waits until the person comes back (leftByDetach) or something else
// happens.
func (r *runner) away(ctx context.Context, end *ending) left {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	enter := make(chan struct{})
	if IsTerminal(r.In) {
		in, _ := r.keys.reader(ctx)
		go func() {
			if n, _ := in.Read(make([]byte, 256)); n > 0 {
				close(enter)
			}
		}()
	}
	select {
	case <-enter:
		return leftByDetach
	case <-end.done:
		return leftByEnd
	case <-r.Interrupted:
		return leftBySignal
	case <-ctx.Done():
		return leftBySignal
	}
}

// pollInterval is how often a VM's state is asked for.
const pollInterval = 250 * time.Millisecond

// waitForEnd returns when the container is EXITED or ctx ends. CRI has no
// call that waits; kubelet polls too.
func (c *Client) waitForEnd(ctx context.Context, id string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		resp, err := c.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return rpcError("asking for the VM's state", err)
		}
		if resp.GetStatus().GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
