package podrun

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/qemulet/qemulet/internal/terminal"
)

// foreground shows the console, boots again what the restart policy wants,
// and returns the last exit code. After an interruption the VM still runs.
func (r *runner) foreground(ctx context.Context, image string) (int32, error) {
	delays := bootDelays{}
	for {
		began := time.Now()
		interrupted, err := r.session(ctx)
		if err != nil || interrupted {
			return 0, err
		}
		code, err := r.sayEnd(ctx, r.container, r.Err)
		if err != nil {
			return 0, err
		}
		if !r.restarts(code) {
			r.ended = true
			return code, nil
		}
		delay := delays.after(time.Since(began))
		r.say("restartPolicy %s: it boots again%s; Ctrl-C ends the pod", r.m.Pod.Spec.RestartPolicy, inWords(delay))
		if !r.pause(ctx, delay) {
			return code, nil
		}
		if err := r.reboot(ctx, image); err != nil {
			return 0, err
		}
	}
}

// restarts tells whether the restart policy wants another attempt. A manifest
// without one does not: a person who powers a VM off wants the shell back.
func (r *runner) restarts(code int32) bool {
	switch r.m.Pod.Spec.RestartPolicy {
	case corev1.RestartPolicyAlways:
		return true
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return false
}

// reboot removes the VM that ended, as kubelet would, and boots the next; the
// pod's root disk stays.
func (r *runner) reboot(ctx context.Context, image string) error {
	if _, err := r.RemoveContainer(ctx, &runtimeapi.RemoveContainerRequest{ContainerId: r.container}); err != nil {
		return r.RPCError("removing the VM that ended", err)
	}
	r.container = ""
	return r.boot(ctx, image)
}

// bootDelays keep a VM that ends at once from being booted again and again.
type bootDelays struct{ next time.Duration }

const (
	firstDelay = time.Second
	lastDelay  = time.Minute
)

// after returns how long to wait after a VM that lived this long: nothing the
// first time and after a life longer than the longest delay.
func (b *bootDelays) after(lived time.Duration) time.Duration {
	if lived > lastDelay {
		b.next = 0
	}
	delay := b.next
	b.next = min(max(2*delay, firstDelay), lastDelay)
	return delay
}

func inWords(delay time.Duration) string {
	if delay == 0 {
		return ""
	}
	return fmt.Sprintf(" in %s", delay)
}

// pause waits; false means that it was interrupted.
func (r *runner) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-r.Interrupted:
		return false
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// session shows the console until the VM ends (false) or the person wants the
// pod to end (true). Ctrl-] leaves the console, not the pod.
func (r *runner) session(ctx context.Context) (interrupted bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := r.watchEnd(ctx, r.container, ownersPatience)
	if terminal.Interactive(r.In, r.Out) {
		r.say("this is the console of %s; Ctrl-] leaves it", r.name())
	} else {
		r.say("this is the console of %s, without input; Ctrl-C ends the pod", r.name())
	}
	for {
		began := time.Now()
		why, err := r.seat.visit(ctx, r.Client, r.container, events{end: end.done, interrupted: r.Interrupted})
		switch why {
		case leftByDetach:
			r.say("\ndetached: left the console of %s, which runs on; Enter returns to it, Ctrl-C ends the pod", r.name())
			why = r.away(ctx, end)
		case leftByFailure:
			r.say("\nthe console of %s was lost: %v", r.name(), err)
			why = r.waitForDaemon(ctx, end, time.Since(began))
		}
		switch why {
		case leftByEnd:
			r.newLine()
			return false, end.err
		case leftByInterrupt, leftByHangup:
			r.newLine()
			return true, nil
		}
	}
}

// newLine begins a line of our own behind what the guest has printed.
func (r *runner) newLine() {
	if terminal.IsWriterTerminal(r.Out) {
		r.say("")
	}
}

// away waits until the person comes back (leftByDetach) or something else
// happens. Ctrl-C is the terminal's meanwhile, and so an interruption.
func (r *runner) away(ctx context.Context, end *ending) left {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	enter := make(chan struct{})
	go func() {
		if r.seat.keys.Next(ctx) {
			close(enter)
		}
	}()
	return until(ctx, r, end, enter)
}

// goodVisit is how long a console lasted that is worth another try at once.
const goodVisit = 3 * time.Second

// waitForDaemon makes the best of a console that was lost after lasting a
// while: a daemon that went away is waited for, one that was quickly back is
// asked again. Otherwise it is the person, if there is one, who tries again.
func (r *runner) waitForDaemon(ctx context.Context, end *ending, lasted time.Duration) left {
	switch {
	case !r.answers(ctx):
		r.say("its VM runs on; waiting for the daemon to come back, Ctrl-C gives up")
		return r.untilAnswers(ctx, end)
	case lasted > goodVisit:
		r.say("its VM runs on, and this is its console again")
		return leftByDetach
	case terminal.Interactive(r.In, r.Out):
		r.say("its VM runs on: Enter returns to the console, Ctrl-C ends the pod")
		return r.away(ctx, end)
	}
	return until(ctx, r, end, time.After(goodVisit))
}

func (r *runner) untilAnswers(ctx context.Context, end *ending) left {
	for {
		why := until(ctx, r, end, time.After(pollInterval))
		if why != leftByDetach {
			return why
		}
		if r.answers(ctx) {
			r.say("the daemon is back, and this is the console again")
			return why
		}
	}
}

// until waits for one of three things; back is leftByDetach.
func until[T any](ctx context.Context, r *runner, end *ending, back <-chan T) left {
	select {
	case <-back:
		return leftByDetach
	case <-end.done:
		return leftByEnd
	case <-r.Interrupted:
		return leftByInterrupt
	case <-ctx.Done():
		return leftByInterrupt
	}
}
