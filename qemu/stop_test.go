package qemu

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp"
)

// stopped calls Stop and tells how long it took.
func stopped(t *testing.T, m *Machine, grace time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	if err := m.Stop(t.Context(), grace); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	default:
		t.Error("Stop has returned before the end")
	}
	wantGone(t, m.id.PID)
	return time.Since(began)
}

// between fails the test if a time is out of bounds.
func between(t *testing.T, what string, took, least, most time.Duration) {
	t.Helper()
	if took < least || took > most {
		t.Errorf("%s took %v, want %v to %v", what, took, least, most)
	}
}

func TestStopObeyed(t *testing.T) {
	noLeaks(t)
	m := newVM(t, guestObeys).cont(t)
	between(t, "stop", stopped(t, m, time.Minute), 0, 3*time.Second)
	wantEnding(t, m.Ending(), Stopped, 0, "power button")
	if err := m.Stop(t.Context(), time.Second); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// A guest that was paused is continued, so that it can obey.
func TestStopPaused(t *testing.T) {
	m := newVM(t, guestObeys).cont(t)
	if err := m.QMP().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	between(t, "stop", stopped(t, m, time.Minute), 0, 3*time.Second)
	wantEnding(t, m.Ending(), Stopped, 0, "power button")
}

func TestStopIgnored(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestIgnores)
	m := v.cont(t)
	between(t, "stop", stopped(t, m, 700*time.Millisecond), 700*time.Millisecond, 1500*time.Millisecond)
	wantEnding(t, m.Ending(), Killed, 137, "had not powered off 700ms")
	if s := readState(v.o.Log); s.cause != causeQuit || !s.asked {
		t.Errorf("QEMU was not told to quit: %+v\n%s", s, v.log(t))
	}
}

func TestStopAtOnce(t *testing.T) {
	m := newVM(t, guestObeys).cont(t)
	between(t, "stop", stopped(t, m, 0), 0, time.Second)
	wantEnding(t, m.Ending(), Killed, 137, "no grace")
}

func TestStopBeforeItRan(t *testing.T) {
	m := newVM(t, guestObeys).start(t)
	between(t, "stop", stopped(t, m, time.Minute), 0, 200*time.Millisecond)
	wantEnding(t, m.Ending(), Killed, 137, "before the guest ever ran")
}

// A QEMU that is stuck has its grace, and its two seconds to quit are over then.
func TestStopUnresponsive(t *testing.T) {
	noLeaks(t)
	m := newVM(t, guestObeys).cont(t)
	syscall.Kill(m.id.PID, syscall.SIGSTOP)
	between(t, "stop", stopped(t, m, 3*time.Second), 3*time.Second, 3500*time.Millisecond)
	wantEnding(t, m.Ending(), Killed, 137, "QEMU did not answer")

	m = newVM(t, guestObeys).cont(t)
	syscall.Kill(m.id.PID, syscall.SIGSTOP)
	between(t, "stop at once", stopped(t, m, 0), quitTime, quitTime+time.Second)
}

// One that is stuck for a while obeys when it comes to.
func TestStopComesTo(t *testing.T) {
	m := newVM(t, guestObeys).cont(t)
	syscall.Kill(m.id.PID, syscall.SIGSTOP)
	timer := time.AfterFunc(time.Second, func() { syscall.Kill(m.id.PID, syscall.SIGCONT) })
	defer timer.Stop()
	stopped(t, m, time.Minute)
	wantEnding(t, m.Ending(), Stopped, 0, "")
}

// Calls join, and the shortest grace counts.
func TestStopJoined(t *testing.T) {
	noLeaks(t)
	m := newVM(t, guestIgnores).cont(t)
	began := time.Now()
	var calls sync.WaitGroup
	for _, grace := range []time.Duration{time.Hour, time.Minute, 500 * time.Millisecond, time.Minute} {
		calls.Go(func() { stopped(t, m, grace) })
	}
	calls.Wait()
	between(t, "all stops", time.Since(began), 500*time.Millisecond, 1500*time.Millisecond)
	wantEnding(t, m.Ending(), Killed, 137, "500ms")
}

// Without its caller a stop goes on.
func TestStopAbandoned(t *testing.T) {
	m := newVM(t, guestIgnores).cont(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := m.Stop(ctx, 600*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	wantEnding(t, ended(t, m), Killed, 137, "600ms")
}

// Close ends a ladder, and not the machine.
func TestStopLetGo(t *testing.T) {
	noLeaks(t)
	m := newVM(t, guestIgnores).cont(t)
	result := make(chan error)
	go func() { result <- m.Stop(t.Context(), time.Hour) }()
	for m.mon.Done(); ; {
		m.mu.Lock()
		asked := m.asked
		m.mu.Unlock()
		if asked {
			break
		}
		time.Sleep(time.Millisecond)
	}
	m.Close()
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("error %v", err)
	}
	if err := syscall.Kill(m.id.PID, 0); err != nil {
		t.Errorf("the process has suffered: %v", err)
	}
}

// A machine whose monitor is lost cannot be asked, but dies.
func TestStopWithoutMonitor(t *testing.T) {
	m := newVM(t, guestIgnores).cont(t)
	m.mon.Close()
	if m.Responsive() {
		t.Error("responsive")
	}
	between(t, "stop", stopped(t, m, time.Minute), 0, 2*time.Second)
	wantEnding(t, m.Ending(), Killed, 137, "monitor was lost")
}

// A guest that powers off while it is being killed off has powered off.
func TestStopFirstWordCounts(t *testing.T) {
	m := newVM(t, guestPowersOff).cont(t)
	status := qmp.Status{Running: true}
	for status.Running {
		var err error
		if status, err = m.QMP().QueryStatus(t.Context()); err != nil {
			break
		}
	}
	stopped(t, m, 0)
	if r := m.Ending().Reason; r != GuestShutdown {
		t.Errorf("reason %s", r)
	}
}
