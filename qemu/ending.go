package qemu

import (
	"cmp"
	"fmt"
	"syscall"
	"time"

	goqemu "github.com/digitalocean/go-qemu/qmp"
	"github.com/qemulet/qemulet/qmp"
)

// Reason is why a machine ended.
type Reason string

// The reasons.
const (
	GuestShutdown Reason = "GuestShutdown" // the guest powered off by itself
	Stopped       Reason = "Stopped"       // the guest powered off when asked to
	GuestPanic    Reason = "GuestPanic"    // the guest's kernel panicked
	Killed        Reason = "Killed"        // ended from outside the guest: by Stop after its grace, by Kill, by quit
	OOMKilled     Reason = "OOMKilled"     // QEMU was killed for lack of memory in its cgroup
	Crash         Reason = "Crash"         // QEMU died or gave up by itself
	Seccomp       Reason = "Seccomp"       // QEMU did what its sandbox forbids
	HostSignal    Reason = "HostSignal"    // QEMU was ended by a signal that is not from here
	Unknown       Reason = "Unknown"       // QEMU is gone, and nobody can say why
)

// Ending is how a machine ended.
type Ending struct {
	Reason Reason `json:"reason"`
	// Time when the guest ended, by QEMU's own record where there is one, else
	// when its death was seen. Zero if it is not known.
	Time time.Time `json:"time"`
	// ExitCode is what a container's would be: 0 for a guest that powered off, 1
	// for one that panicked, 128 and the number for a signal, 255 if unknown.
	ExitCode int `json:"exitCode"`
	// Detail is for people, with QEMU's last words where it has failed.
	Detail string `json:"detail,omitempty"`
}

// exitUnknown is the exit code of what nobody knows.
const exitUnknown = 255

// cause is what QEMU itself says of a machine's end.
type cause int

const (
	causeNone          cause = iota
	causeGuestShutdown       // the guest powered off
	causeGuestPanic
	causeInternalError // the accelerator cannot go on with the guest
	causeHostError     // a device of QEMU's cannot
	causeQuit          // quit on the monitor
	causeSignal        // a signal that QEMU obeys: TERM, INT, HUP
	causeOther
)

// stays tells whether the process stays, paused, after that (-action).
func (c cause) stays() bool {
	return c == causeGuestShutdown || c == causeGuestPanic || c == causeInternalError || c == causeHostError
}

// lastState is what a machine has said of its end, and when.
type lastState struct {
	cause cause
	time  time.Time
	asked bool   // it was asked to power off before
	info  string // QAPI's word for it
	// signal is the one that QEMU says it has obeyed, if it does.
	signal syscall.Signal
}

// causeOfShutdown translates QAPI's ShutdownCause.
func causeOfShutdown(reason string) cause {
	switch reason {
	case "guest-shutdown":
		return causeGuestShutdown
	case "guest-panic":
		return causeGuestPanic
	case "host-error":
		return causeHostError
	case "host-qmp-quit":
		return causeQuit
	case "host-signal":
		return causeSignal
	}
	return causeOther
}

// endOfRunState are the run states that a guest does not leave by itself.
var endOfRunState = map[qmp.RunState]cause{
	qmp.RunStateShutdown:      causeGuestShutdown,
	qmp.RunStateGuestPanicked: causeGuestPanic,
	qmp.RunStateInternalError: causeInternalError,
}

// stateOfEvent reads the events SHUTDOWN and GUEST_PANICKED (QAPI run-state).
func stateOfEvent(e goqemu.Event) (lastState, bool) {
	s := lastState{time: qmp.EventTime(e)}
	switch e.Event {
	case "SHUTDOWN":
		reason, _ := e.Data["reason"].(string)
		s.cause, s.info = causeOfShutdown(reason), reason
		return s, true
	case "GUEST_PANICKED":
		// Other actions than this are followed by SHUTDOWN, or by nothing.
		s.cause = causeGuestPanic
		return s, e.Data["action"] == "pause"
	}
	return s, false
}

// evidence is all that is known of a machine's end.
type evidence struct {
	said      lastState
	status    exitStatus
	killedFor string // why we ended it, "" if we did not
	oom       bool
	words     string    // QEMU's last
	seen      time.Time // when its death was noticed
}

// open tells whether the verdict depends on how the process died.
func (e evidence) open() bool { return e.said.cause == causeNone && !e.oom && e.killedFor == "" }

// ending is the verdict. What the guest did comes first, for the process is ended
// by us after it; then who has ended the process; then how it died.
func (e evidence) ending() Ending {
	x := e.verdict()
	if x.Time.IsZero() {
		x.Time = e.seen
	}
	return x
}

func (e evidence) verdict() Ending {
	at := e.said.time
	switch e.said.cause {
	case causeGuestShutdown:
		if e.said.asked {
			return Ending{Stopped, at, 0, "the guest powered off when its power button was pressed"}
		}
		return Ending{GuestShutdown, at, 0, "the guest powered off"}
	case causeGuestPanic:
		return Ending{GuestPanic, at, 1, "the guest's kernel panicked"}
	case causeInternalError:
		return Ending{Crash, at, 1, e.withWords("QEMU could not go on with the guest (internal-error)")}
	case causeHostError:
		return Ending{Crash, at, 1, e.withWords("QEMU could not go on (host-error)")}
	}
	if e.oom && (!e.status.known || e.status.signal == syscall.SIGKILL) {
		return Ending{OOMKilled, at, exitOf(syscall.SIGKILL), "QEMU was killed for lack of memory: its cgroup's limit was reached"}
	}
	if e.killedFor != "" {
		return Ending{Killed, at, exitOf(syscall.SIGKILL), e.killedFor}
	}
	return e.unexpected()
}

// unexpected is the verdict on a process that was to go on.
func (e evidence) unexpected() Ending {
	at := e.said.time
	switch {
	case e.said.cause == causeQuit:
		return Ending{Killed, at, exitOf(syscall.SIGKILL), "quit was given on the monitor"}
	case e.said.cause == causeSignal:
		return Ending{HostSignal, at, exitOf(cmp.Or(e.said.signal, syscall.SIGTERM)), e.withWords("QEMU was told to end by a signal")}
	case e.said.cause == causeOther:
		return Ending{Unknown, at, exitUnknown, e.withWords(fmt.Sprintf("QEMU ended with the reason %q", e.said.info))}
	case !e.status.known:
		return Ending{Unknown, at, exitUnknown, e.withWords("QEMU is gone")}
	case e.status.signal == syscall.SIGKILL:
		return Ending{HostSignal, at, exitOf(syscall.SIGKILL), "QEMU was " + e.status.String() + ", not from here"}
	case e.status.signal == syscall.SIGSYS:
		return Ending{Seccomp, at, exitOf(syscall.SIGSYS), e.withWords("QEMU was killed by its sandbox")}
	case e.status.signal != 0:
		return Ending{Crash, at, exitOf(e.status.signal), e.withWords("QEMU was " + e.status.String())}
	}
	return Ending{Crash, at, e.status.code, e.withWords("QEMU ended by itself: " + e.status.String())}
}

func (e evidence) withWords(text string) string {
	if e.words == "" {
		return text
	}
	return text + ": " + e.words
}

// exitOf is a shell's exit code for a signal.
func exitOf(s syscall.Signal) int { return 128 + int(s) }
