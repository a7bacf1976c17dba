package qmp

import (
	"context"
	"encoding/json"
)

// KVM is the result of query-kvm.
type KVM struct {
	Enabled bool `json:"enabled"` // this process uses it
	Present bool `json:"present"` // the binary has it
}

// QueryKVM asks whether KVM is used (query-kvm).
func (c *Conn) QueryKVM(ctx context.Context) (KVM, error) {
	return query[KVM](ctx, c, "query-kvm", nil)
}

// MachineInfo is one machine type (QAPI MachineInfo).
type MachineInfo struct {
	Name             string `json:"name"`
	Alias            string `json:"alias,omitempty"`
	IsDefault        bool   `json:"is-default,omitempty"`
	CPUMax           int    `json:"cpu-max"`
	HotpluggableCPUs bool   `json:"hotpluggable-cpus"`
	Deprecated       bool   `json:"deprecated"`
	DefaultCPUType   string `json:"default-cpu-type,omitempty"`
	DefaultRAMID     string `json:"default-ram-id,omitempty"`
}

// QueryMachines lists the machine types of the binary (query-machines).
func (c *Conn) QueryMachines(ctx context.Context) ([]MachineInfo, error) {
	return query[[]MachineInfo](ctx, c, "query-machines", nil)
}

// QueryQMPSchema returns the whole QAPI schema as JSON (query-qmp-schema), above
// 150 KiB.
func (c *Conn) QueryQMPSchema(ctx context.Context) (json.RawMessage, error) {
	return query[json.RawMessage](ctx, c, "query-qmp-schema", nil)
}

// HumanMonitorCommand runs a command line of the human monitor and returns what it
// prints (human-monitor-command). Its output changes between versions.
func (c *Conn) HumanMonitorCommand(ctx context.Context, line string) (string, error) {
	return query[string](ctx, c, "human-monitor-command", struct {
		Line string `json:"command-line"`
	}{line})
}

// Screendump writes a picture of the guest's display (screendump) to a file of the
// host, opened by QEMU. format is "ppm" or "png"; empty is QEMU's default, ppm.
func (c *Conn) Screendump(ctx context.Context, filename, format string) error {
	return c.Do(ctx, "screendump", struct {
		Filename string `json:"filename"`
		Format   string `json:"format,omitempty"`
	}{filename, format}, nil)
}

// query is Do with its result as a value.
func query[T any](ctx context.Context, c *Conn, command string, args any) (T, error) {
	var r T
	err := c.Do(ctx, command, args, &r)
	return r, err
}

// CharDevice is a character device (QAPI ChardevInfo).
type CharDevice struct {
	Label string `json:"label"`
	// FrontendOpen tells whether the guest has opened the port behind it.
	FrontendOpen bool `json:"frontend-open"`
}

// QueryCharDevices lists the character devices (query-chardev).
func (c *Conn) QueryCharDevices(ctx context.Context) (all []CharDevice, err error) {
	return all, c.Do(ctx, "query-chardev", nil, &all)
}
