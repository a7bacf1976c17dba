package qmp

import (
	"context"
	"errors"
	"io"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// RunState is QEMU's state of the machine (QAPI RunState).
type RunState string

// The run states that decisions are made on.
const (
	RunStatePrelaunch     RunState = "prelaunch"      // started with -S, not continued yet
	RunStateRunning       RunState = "running"        //
	RunStatePaused        RunState = "paused"         // by stop
	RunStateShutdown      RunState = "shutdown"       // guest powered off, QEMU stays
	RunStateGuestPanicked RunState = "guest-panicked" //
	RunStateInternalError RunState = "internal-error" // of the accelerator; needs a reset
	RunStateIOError       RunState = "io-error"       // a disk's error stopped the guest
	RunStateInMigrate     RunState = "inmigrate"      // waits for incoming migration
)

// Status is the result of query-status.
type Status struct {
	Running bool     `json:"running"`
	Status  RunState `json:"status"`
}

// QueryStatus asks for the run state (query-status).
func (c *Conn) QueryStatus(ctx context.Context) (s Status, err error) {
	err = c.Do(ctx, "query-status", nil, &s)
	return s, err
}

// Cont lets the guest's processors run (cont).
func (c *Conn) Cont(ctx context.Context) error { return c.Do(ctx, "cont", nil, nil) }

// Stop pauses the guest's processors (stop).
func (c *Conn) Stop(ctx context.Context) error { return c.Do(ctx, "stop", nil, nil) }

// SystemPowerdown presses the guest's power button (system_powerdown). What the
// guest makes of it shows in a SHUTDOWN event.
func (c *Conn) SystemPowerdown(ctx context.Context) error {
	return c.Do(ctx, "system_powerdown", nil, nil)
}

// SystemReset presses the guest's reset button (system_reset).
func (c *Conn) SystemReset(ctx context.Context) error { return c.Do(ctx, "system_reset", nil, nil) }

// Quit ends the QEMU process (quit). QEMU may be gone before it has answered, so
// the end of the connection is success. The process may live a little longer.
func (c *Conn) Quit(ctx context.Context) error {
	err := c.Do(ctx, "quit", nil, nil)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// Actions says what QEMU does at an event of the guest (QAPI set-action). Empty
// fields stay as they are.
type Actions struct {
	Reboot   string `json:"reboot,omitempty"`   // reset, shutdown
	Shutdown string `json:"shutdown,omitempty"` // poweroff, pause
	Panic    string `json:"panic,omitempty"`    // none, pause, shutdown, exit-failure
	Watchdog string `json:"watchdog,omitempty"` // reset, shutdown, poweroff, pause, debug, none, inject-nmi
}

// SetAction changes what QEMU does at events of the guest (set-action).
func (c *Conn) SetAction(ctx context.Context, a Actions) error {
	return c.Do(ctx, "set-action", a, nil)
}

// QueryVersion asks for QEMU's version (query-version), which [Conn.Version] knows
// without asking.
func (c *Conn) QueryVersion(ctx context.Context) (v goqemu.Version, err error) {
	err = c.Do(ctx, "query-version", nil, &v)
	return v, err
}

// QueryName asks for the machine's name, empty if it has none (query-name).
func (c *Conn) QueryName(ctx context.Context) (string, error) {
	var r struct{ Name string }
	err := c.Do(ctx, "query-name", nil, &r)
	return r.Name, err
}

// QueryUUID asks for the machine's UUID, lower case (query-uuid).
func (c *Conn) QueryUUID(ctx context.Context) (string, error) {
	var r struct {
		UUID string `json:"UUID"`
	}
	err := c.Do(ctx, "query-uuid", nil, &r)
	return r.UUID, err
}
