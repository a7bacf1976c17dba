package qmp

import (
	"context"
	"encoding/json"
)

// QueryBalloon returns the bytes of memory that the balloon leaves to the guest
// (query-balloon). Without a balloon it is an [*Error] of class DeviceNotActive.
func (c *Conn) QueryBalloon(ctx context.Context) (int64, error) {
	type info struct {
		Actual int64 `json:"actual"`
	}
	r, err := query[info](ctx, c, "query-balloon", nil)
	return r.Actual, err
}

// Balloon asks the guest to do with that many bytes of memory (balloon).
func (c *Conn) Balloon(ctx context.Context, bytes int64) error {
	return c.Do(ctx, "balloon", struct {
		Value int64 `json:"value"`
	}{bytes}, nil)
}

// MemoryDevice is a pluggable piece of memory (QAPI MemoryDeviceInfo).
type MemoryDevice struct {
	Type string          `json:"type"` // dimm, nvdimm, virtio-pmem, virtio-mem, ...
	Data json.RawMessage `json:"data"` // differs by type
}

// QueryMemoryDevices lists the pluggable pieces of memory (query-memory-devices).
func (c *Conn) QueryMemoryDevices(ctx context.Context) ([]MemoryDevice, error) {
	return query[[]MemoryDevice](ctx, c, "query-memory-devices", nil)
}

// MemorySize is the result of query-memory-size-summary, in bytes.
type MemorySize struct {
	Base    int64 `json:"base-memory"`
	Plugged int64 `json:"plugged-memory"`
}

// QueryMemorySize returns the machine's memory (query-memory-size-summary).
func (c *Conn) QueryMemorySize(ctx context.Context) (MemorySize, error) {
	return query[MemorySize](ctx, c, "query-memory-size-summary", nil)
}
