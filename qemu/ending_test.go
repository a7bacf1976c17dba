package qemu

import (
	"syscall"
	"testing"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

var (
	saidAt = time.Unix(1000, 0)
	seenAt = time.Unix(2000, 0)
)

func TestVerdict(t *testing.T) {
	signal := func(s syscall.Signal) exitStatus { return exitStatus{known: true, signal: s} }
	cases := []struct {
		name string
		e    evidence
		want Ending
	}{
		{"guest powered off", evidence{said: lastState{cause: causeGuestShutdown, time: saidAt}, status: exitStatus{known: true}},
			Ending{GuestShutdown, saidAt, 0, "the guest powered off"}},
		{"and was asked to", evidence{said: lastState{cause: causeGuestShutdown, time: saidAt, asked: true}, status: exitStatus{known: true}},
			Ending{Stopped, saidAt, 0, "the guest powered off when its power button was pressed"}},
		{"and QEMU hung then", evidence{said: lastState{cause: causeGuestShutdown, time: saidAt}, killedFor: "x", oom: true, status: signal(syscall.SIGKILL)},
			Ending{GuestShutdown, saidAt, 0, "the guest powered off"}},
		{"guest panicked", evidence{said: lastState{cause: causeGuestPanic, time: saidAt, asked: true}},
			Ending{GuestPanic, saidAt, 1, "the guest's kernel panicked"}},
		{"internal error", evidence{said: lastState{cause: causeInternalError, time: saidAt}, words: "KVM: entry failed"},
			Ending{Crash, saidAt, 1, "QEMU could not go on with the guest (internal-error): KVM: entry failed"}},
		{"host error", evidence{said: lastState{cause: causeHostError, time: saidAt}}, Ending{Crash, saidAt, 1, "QEMU could not go on (host-error)"}},
		{"out of memory", evidence{oom: true, status: signal(syscall.SIGKILL)},
			Ending{OOMKilled, seenAt, 137, "QEMU was killed for lack of memory: its cgroup's limit was reached"}},
		{"out of memory, no child", evidence{oom: true},
			Ending{OOMKilled, seenAt, 137, "QEMU was killed for lack of memory: its cgroup's limit was reached"}},
		{"a helper was out of memory", evidence{oom: true, status: signal(syscall.SIGABRT)},
			Ending{Crash, seenAt, 134, "QEMU was killed by signal 6 (SIGABRT)"}},
		{"killed by us", evidence{killedFor: "grace is over", status: signal(syscall.SIGKILL)}, Ending{Killed, seenAt, 137, "grace is over"}},
		{"quit by us", evidence{said: lastState{cause: causeQuit, time: saidAt}, killedFor: "grace is over", status: exitStatus{known: true}},
			Ending{Killed, saidAt, 137, "grace is over"}},
		{"quit by another", evidence{said: lastState{cause: causeQuit, time: saidAt}, status: exitStatus{known: true}},
			Ending{Killed, saidAt, 137, "quit was given on the monitor"}},
		{"SIGTERM", evidence{said: lastState{cause: causeSignal, time: saidAt, signal: syscall.SIGTERM}, status: exitStatus{known: true}},
			Ending{HostSignal, saidAt, 143, "QEMU was told to end by a signal"}},
		{"a signal", evidence{said: lastState{cause: causeSignal, time: saidAt}, words: "oh", status: exitStatus{known: true}},
			Ending{HostSignal, saidAt, 143, "QEMU was told to end by a signal: oh"}},
		{"something new", evidence{said: lastState{cause: causeOther, time: saidAt, info: "host-ui"}, status: exitStatus{known: true}},
			Ending{Unknown, saidAt, 255, `QEMU ended with the reason "host-ui"`}},
		{"nobody knows", evidence{words: "oh"}, Ending{Unknown, seenAt, 255, "QEMU is gone: oh"}},
		{"SIGKILL", evidence{status: signal(syscall.SIGKILL)}, Ending{HostSignal, seenAt, 137, "QEMU was killed by signal 9 (SIGKILL), not from here"}},
		{"sandbox", evidence{status: signal(syscall.SIGSYS)}, Ending{Seccomp, seenAt, 159, "QEMU was killed by its sandbox"}},
		{"assertion", evidence{status: signal(syscall.SIGABRT), words: "Assertion failed"},
			Ending{Crash, seenAt, 134, "QEMU was killed by signal 6 (SIGABRT): Assertion failed"}},
		{"gave up", evidence{status: exitStatus{known: true, code: 1}, words: "no such thing"},
			Ending{Crash, seenAt, 1, "QEMU ended by itself: exit status 1: no such thing"}},
	}
	for _, c := range cases {
		c.e.seen = seenAt
		if got := c.e.ending(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestStateOfEvent(t *testing.T) {
	event := func(name string, data map[string]any) goqemu.Event {
		e := goqemu.Event{Event: name, Data: data}
		e.Timestamp.Seconds = saidAt.Unix()
		return e
	}
	cases := []struct {
		e     goqemu.Event
		cause cause
		ended bool
	}{
		{event("SHUTDOWN", map[string]any{"guest": true, "reason": "guest-shutdown"}), causeGuestShutdown, true},
		{event("SHUTDOWN", map[string]any{"guest": true, "reason": "guest-panic"}), causeGuestPanic, true},
		{event("SHUTDOWN", map[string]any{"guest": false, "reason": "host-qmp-quit"}), causeQuit, true},
		{event("SHUTDOWN", map[string]any{"guest": false, "reason": "host-signal"}), causeSignal, true},
		{event("SHUTDOWN", map[string]any{"guest": false, "reason": "host-error"}), causeHostError, true},
		{event("SHUTDOWN", map[string]any{"reason": "of a later QEMU"}), causeOther, true},
		{event("SHUTDOWN", nil), causeOther, true},
		{event("GUEST_PANICKED", map[string]any{"action": "pause"}), causeGuestPanic, true},
		{event("GUEST_PANICKED", map[string]any{"action": "run"}), causeGuestPanic, false},
		{event("STOP", nil), causeNone, false},
	}
	for _, c := range cases {
		s, ended := stateOfEvent(c.e)
		if s.cause != c.cause || ended != c.ended || !s.time.Equal(saidAt) {
			t.Errorf("%v: %+v, %v", c.e, s, ended)
		}
	}
}
