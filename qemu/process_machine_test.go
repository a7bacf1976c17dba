package qemu

import (
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp"
	"github.com/qemulet/qemulet/qmp/qmptest"
)

// player plays a monitor.
type player struct {
	*qmptest.Peer
	state atomic.Value // what query-status says
}

// scripted is a Machine whose monitor is played, and whose process does nothing but
// die when it is told to quit.
func scripted(t *testing.T, state qmp.RunState, log ...string) (*Machine, *player) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() })
	t.Cleanup(func() { cmd.Process.Kill() })
	proc, err := openProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	conn, peer := qmptest.New(t)
	quit := func(qmptest.Command) (any, error) {
		cmd.Process.Kill()
		return struct{}{}, nil
	}
	p := &player{Peer: peer}
	p.state.Store(state)
	go peer.Serve(qmptest.Script{
		"query-status": func(qmptest.Command) (any, error) { return qmp.Status{Status: p.state.Load().(qmp.RunState)}, nil },
		"quit":         quit,
	})
	mon, err := qmp.New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	m := watch(machineParts{proc: proc, mon: mon, log: logFile(t, log...)}, state)
	t.Cleanup(func() { m.Close() })
	// The monitor of a dead QEMU closes.
	go func() {
		proc.wait()
		peer.Die()
	}()
	return m, p
}

// What stops the accelerator for good has no event of its own.
func TestInternalError(t *testing.T) {
	m, _ := scripted(t, qmp.RunStateInternalError, lineRuns, lineInternal)
	if e := ended(t, m); e.Reason != Crash || !e.Time.Equal(time.Unix(1795375024, 960102000)) {
		t.Errorf("ending %+v", e)
	}
}

func TestStateAfterStop(t *testing.T) {
	for state, reason := range map[qmp.RunState]Reason{
		qmp.RunStateInternalError: Crash,
		qmp.RunStateShutdown:      GuestShutdown,
		qmp.RunStateGuestPanicked: GuestPanic,
	} {
		m, peer := scripted(t, qmp.RunStateRunning)
		peer.state.Store(state)
		peer.Event("STOP", "{}", 5e6)
		if e := ended(t, m); e.Reason != reason {
			t.Errorf("state %s: ending %+v", state, e)
		}
	}
}

// A guest that is only paused goes on to be watched.
func TestPausedIsNoEnd(t *testing.T) {
	m, peer := scripted(t, qmp.RunStatePaused)
	peer.Event("STOP", "{}", 5e6)
	peer.Event("GUEST_PANICKED", `{"action": "run"}`, 6e6)
	peer.Event("SHUTDOWN", `{"guest": true, "reason": "guest-shutdown"}`, 7e6)
	if e := ended(t, m); e.Reason != GuestShutdown || e.Time.Unix() != 7 {
		t.Errorf("ending %+v", e)
	}
}

// The first word of an end counts, whatever a QEMU adds that is being ended.
func TestFirstWordCounts(t *testing.T) {
	m, peer := scripted(t, qmp.RunStateRunning)
	for at, line := range []string{`{"guest": true, "reason": "guest-shutdown"}`, `{"guest": false, "reason": "host-signal"}`, `{"guest": false, "reason": "host-qmp-quit"}`} {
		peer.Event("SHUTDOWN", line, int64(at+1)*1e6)
	}
	if e := ended(t, m); e.Reason != GuestShutdown || e.Time.Unix() != 1 {
		t.Errorf("ending %+v", e)
	}
}
