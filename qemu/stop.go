package qemu

import (
	"context"
	"fmt"
	"time"

	"github.com/qemulet/qemulet/qmp"
)

// The times of Stop.
const (
	secondPress = 500 * time.Millisecond // some guests want the button twice
	nextPress   = 5 * time.Second        // and some were not listening yet
	quitTime    = 2 * time.Second        // for QEMU to write back what it holds
)

// Stop ends the machine: it presses the power button, again after half a second and
// then every 5 seconds, until the guest has powered off or grace is over; then it
// has QEMU quit, and if that takes more than 2 seconds, kills it. A guest that is
// paused is continued, to be able to obey; one that has never run is killed at
// once; with grace 0 the power button is left out.
//
// It returns nil when the process is dead, or an error that wraps ctx's when ctx ends
// before: the machine goes on being stopped. Another call joins the one under way,
// and its grace counts if it ends earlier.
func (m *Machine) Stop(ctx context.Context, grace time.Duration) error {
	m.climb(grace)
	select {
	case <-m.done:
		return nil
	case <-m.closed:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("qemu: stop %v, which goes on: %w", m.id, context.Cause(ctx))
	}
}

// ladder is a Stop under way. Its first rung, asking, ends when grace is over.
type ladder struct {
	grace    time.Duration // that counts, for people
	deadline time.Time
	timer    *time.Timer
}

// climb begins a ladder or hurries the one there is.
func (m *Machine) climb(grace time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	deadline := time.Now().Add(grace)
	switch l := m.ladder; {
	case m.closing:
	case l == nil:
		asking, over := context.WithCancel(context.Background())
		m.ladder = &ladder{grace: grace, deadline: deadline, timer: time.AfterFunc(grace, over)}
		m.work.Go(func() {
			defer over()
			m.stop(asking, grace > 0)
		})
	case deadline.Before(l.deadline):
		l.grace, l.deadline = grace, deadline
		l.timer.Reset(grace) // of no effect on a rung that has been left
	}
}

// stop climbs the ladder.
func (m *Machine) stop(asking context.Context, ask bool) {
	defer m.ladder.timer.Stop()
	why, quit := "ended at once, with no grace", m.mon != nil
	if ask && quit {
		why, quit = m.ask(asking)
	}
	if m.over() {
		return
	}
	m.setKilled(why)
	if quit {
		m.quit()
	}
	_ = m.proc.kill() // fails only if it is dead, or let go of
}

// over tells whether there is nothing left to do.
func (m *Machine) over() bool {
	select {
	case <-m.done:
	case <-m.closed:
	default:
		return false
	}
	return true
}

// ask asks the guest to power off for as long as it may take. It tells why that was
// not enough, and whether QEMU is worth asking to quit.
func (m *Machine) ask(asking context.Context) (why string, quit bool) {
	for pause := secondPress; ; pause = nextPress {
		began := time.Now()
		state, err := m.press(asking)
		stuck := err != nil && time.Since(began) > quitTime
		if state == qmp.RunStatePrelaunch {
			return "ended before the guest ever ran", false
		}
		if !m.Responsive() && !m.endsWithin(exitTime) {
			return "ended because its monitor was lost, and the guest could not be asked to power off", false
		}
		select {
		case <-asking.Done():
			return m.patience(stuck), !stuck
		case <-m.done:
			return "", false
		case <-m.closed:
			return "", false
		case <-time.After(pause):
		}
	}
}

// endsWithin waits for a process that seems to be about to end.
func (m *Machine) endsWithin(limit time.Duration) bool {
	select {
	case <-m.done:
	case <-m.closed:
	case <-time.After(limit):
		return false
	}
	return true
}

// press presses the power button of a guest that can feel it.
func (m *Machine) press(ctx context.Context) (qmp.RunState, error) {
	status, err := m.mon.QueryStatus(ctx)
	if err != nil || status.Status == qmp.RunStatePrelaunch {
		return status.Status, err
	}
	if !status.Running {
		// Refused by those that cannot go on; they have ended, or will not.
		_ = m.Cont(ctx)
	}
	return status.Status, m.PowerDown(ctx)
}

// patience says that the grace was over.
func (m *Machine) patience(stuck bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if stuck {
		return fmt.Sprintf("QEMU did not answer, so that the guest could not be asked to power off within %v", m.ladder.grace)
	}
	return fmt.Sprintf("the guest had not powered off %v after it was asked to", m.ladder.grace)
}

// quit has QEMU quit, and returns when it is dead, or has taken too long.
func (m *Machine) quit() {
	ctx, cancel := context.WithTimeout(context.Background(), quitTime)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if m.mon.Quit(ctx) == nil {
		m.endsWithin(time.Until(deadline))
	}
}
