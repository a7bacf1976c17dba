package qmp

import (
	"context"
	"math"
	"time"
)

// GuestMemory is what the balloon's driver in a guest tells of its memory
// (docs/virtio-balloon-stats.txt of QEMU). Sizes are in bytes; what the guest
// does not tell is nil.
type GuestMemory struct {
	// Updated is when the guest has told it.
	Updated time.Time
	// Total is what the guest sees, Free of that is unused, Available can be had
	// without swapping, Caches are its disk caches.
	Total, Free, Available, Caches *uint64
	// SwapIn and SwapOut count bytes, the faults pages, since the guest's boot.
	SwapIn, SwapOut, MajorFaults, MinorFaults *uint64
}

// SetGuestMemoryPolling has the guest asked for its memory every interval,
// given in whole seconds; 0 ends that. path is the balloon's in QOM
// (guest-stats-polling-interval of virtio-balloon).
func (c *Conn) SetGuestMemoryPolling(ctx context.Context, path string, interval time.Duration) error {
	return c.QOMSet(ctx, path, "guest-stats-polling-interval", int64(interval/time.Second))
}

// GuestMemory returns what the guest has told last (guest-stats of virtio-balloon);
// nil when it has told nothing yet, as one without a driver never does.
func (c *Conn) GuestMemory(ctx context.Context, path string) (*GuestMemory, error) {
	var told struct {
		Stats map[string]uint64 `json:"stats"`
		// LastUpdate is in seconds since 1970, 0 for never.
		LastUpdate int64 `json:"last-update"`
	}
	if err := c.QOMGet(ctx, path, "guest-stats", &told); err != nil || told.LastUpdate == 0 {
		return nil, err
	}
	value := func(name string) *uint64 {
		v, ok := told.Stats["stat-"+name]
		if !ok || v == math.MaxUint64 { // -1: not told
			return nil
		}
		return &v
	}
	return &GuestMemory{
		Updated: time.Unix(told.LastUpdate, 0),
		Total:   value("total-memory"), Free: value("free-memory"), Available: value("available-memory"), Caches: value("disk-caches"),
		SwapIn: value("swap-in"), SwapOut: value("swap-out"), MajorFaults: value("major-faults"), MinorFaults: value("minor-faults"),
	}, nil
}
