package runtime

import (
	"fmt"

	"github.com/qemulet/qemulet/internal/store"
	"github.com/qemulet/qemulet/qemu"
)

// Exit codes, in the manner of a shell: 128 and the signal's number.
const (
	exitOK         = 0
	exitError      = 1
	exitStartError = 128
	exitKilled     = 137
)

// Reasons of an end, as `kubectl describe` shows them. Completed, Error,
// OOMKilled and StartError are those that people know from containers.
const (
	reasonCompleted   = "Completed"
	reasonError       = "Error"
	reasonOOMKilled   = "OOMKilled"
	reasonStartError  = "StartError"
	reasonStopped     = "Stopped"
	reasonGuestPanic  = "GuestPanic"
	reasonQEMUCrashed = "QEMUCrashed"
	reasonQEMUKilled  = "QEMUKilled"
	reasonNodeReboot  = "NodeReboot"
	reasonUnknown     = "ContainerStatusUnknown"
)

// Reasons are all that the end of a VM can have whose start was asked for.
func Reasons() []string {
	return []string{reasonCompleted, reasonError, reasonOOMKilled, reasonStartError, reasonGuestPanic,
		reasonQEMUCrashed, reasonQEMUKilled, reasonNodeReboot, reasonUnknown}
}

// messagePoweredOff is of a guest that nobody asked to.
const messagePoweredOff = "the guest powered off"

// exit is how CRI tells an end.
type exit struct {
	code            int32
	reason, message string
}

// exitOf tells an ending in CRI's terms.
func exitOf(e qemu.Ending) exit {
	switch e.Reason {
	case qemu.GuestShutdown:
		return exit{exitOK, reasonCompleted, messagePoweredOff}
	case qemu.Stopped:
		return exit{exitOK, reasonCompleted, "the guest powered off when asked to"}
	case qemu.Killed:
		return exit{exitKilled, reasonError, "the VM was ended by force: " + e.Detail}
	case qemu.GuestPanic:
		return exit{exitError, reasonGuestPanic, "the guest's kernel panicked"}
	case qemu.OOMKilled:
		return exit{exitKilled, reasonOOMKilled, "the kernel killed QEMU for want of memory" + detail(e)}
	case qemu.HostSignal:
		return exit{exitCode(e), reasonQEMUKilled, "QEMU was ended by a signal on the host" + detail(e)}
	case qemu.Seccomp:
		return exit{exitCode(e), reasonQEMUCrashed, "QEMU was killed by its sandbox for a forbidden system call" + detail(e)}
	case qemu.Crash:
		return exit{exitCode(e), crashReason(e), "QEMU died" + detail(e)}
	}
	return exit{exitCode(e), reasonUnknown, "how the VM ended is not known" + detail(e)}
}

func crashReason(e qemu.Ending) string {
	if e.ExitCode == exitKilled {
		return reasonQEMUKilled
	}
	return reasonQEMUCrashed
}

// exitCode is never 0 for what was not a success.
func exitCode(e qemu.Ending) int32 {
	if e.ExitCode <= 0 || e.ExitCode > 255 {
		return exitKilled
	}
	return int32(e.ExitCode)
}

func detail(e qemu.Ending) string {
	if e.Detail == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", e.Detail)
}

// recordExit returns the change that an end makes to a record.
func recordExit(e qemu.Ending) func(*store.Container) {
	x := exitOf(e)
	return func(c *store.Container) {
		c.Finished, c.ExitCode, c.Reason, c.Message = e.Time, x.code, x.reason, x.message
	}
}
