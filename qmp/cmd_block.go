package qmp

import "context"

// BlockDevice is a drive of the guest (QAPI BlockInfo).
type BlockDevice struct {
	Device    string       `json:"device"`         // empty for drives made with -blockdev
	QDev      string       `json:"qdev,omitempty"` // id or QOM path of the guest's device
	Type      string       `json:"type"`
	Removable bool         `json:"removable"`
	Locked    bool         `json:"locked"`
	IOStatus  string       `json:"io-status,omitempty"` // ok, failed, nospace
	Inserted  *BlockMedium `json:"inserted,omitempty"`  // nil: nothing in the drive
}

// BlockMedium is what is in a drive (QAPI BlockDeviceInfo).
type BlockMedium struct {
	File     string     `json:"file"`
	NodeName string     `json:"node-name,omitempty"`
	ReadOnly bool       `json:"ro"`
	Driver   string     `json:"drv"`
	Image    BlockImage `json:"image"`
}

// BlockImage is a disk image (QAPI ImageInfo). Sizes are in bytes.
type BlockImage struct {
	Filename    string      `json:"filename"`
	Format      string      `json:"format"`
	VirtualSize int64       `json:"virtual-size"`
	ActualSize  int64       `json:"actual-size,omitempty"`
	Backing     *BlockImage `json:"backing-image,omitempty"`
}

// QueryBlock lists the drives (query-block).
func (c *Conn) QueryBlock(ctx context.Context) ([]BlockDevice, error) {
	return query[[]BlockDevice](ctx, c, "query-block", nil)
}

// BlockStats counts what went through a drive since the start (QAPI BlockStats).
type BlockStats struct {
	Device   string       `json:"device,omitempty"`
	QDev     string       `json:"qdev,omitempty"`
	NodeName string       `json:"node-name,omitempty"`
	Stats    BlockCounter `json:"stats"`
}

// BlockCounter is part of [BlockStats] (QAPI BlockDeviceStats): bytes, operations
// and nanoseconds.
type BlockCounter struct {
	ReadBytes        uint64 `json:"rd_bytes"`
	WriteBytes       uint64 `json:"wr_bytes"`
	ReadOperations   uint64 `json:"rd_operations"`
	WriteOperations  uint64 `json:"wr_operations"`
	FlushOperations  uint64 `json:"flush_operations"`
	ReadTimeNS       uint64 `json:"rd_total_time_ns"`
	WriteTimeNS      uint64 `json:"wr_total_time_ns"`
	FlushTimeNS      uint64 `json:"flush_total_time_ns"`
	WriteHighestByte uint64 `json:"wr_highest_offset"`
}

// QueryBlockStats returns the counters of all drives (query-blockstats).
func (c *Conn) QueryBlockStats(ctx context.Context) ([]BlockStats, error) {
	return query[[]BlockStats](ctx, c, "query-blockstats", nil)
}

// BlockdevAdd opens a block node (blockdev-add). options encodes to QAPI's
// BlockdevOptions.
func (c *Conn) BlockdevAdd(ctx context.Context, options any) error {
	return c.Do(ctx, "blockdev-add", options, nil)
}

// BlockdevDel closes a block node that no device uses (blockdev-del).
func (c *Conn) BlockdevDel(ctx context.Context, node string) error {
	return c.Do(ctx, "blockdev-del", struct {
		Node string `json:"node-name"`
	}{node}, nil)
}

// BlockResize changes the size, in bytes, of a block node and tells the guest
// (block_resize).
func (c *Conn) BlockResize(ctx context.Context, node string, size int64) error {
	return c.Do(ctx, "block_resize", struct {
		Node string `json:"node-name"`
		Size int64  `json:"size"`
	}{node, size}, nil)
}
