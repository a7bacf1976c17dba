package qmp

import (
	"context"
	"os"
)

// FdsetFD is a descriptor in a set of QEMU (QAPI AddfdInfo): /dev/fdset/SetID.
type FdsetFD struct {
	SetID int `json:"fdset-id"`
	FD    int `json:"fd"` // its number in QEMU
}

type addFD struct {
	SetID  *int   `json:"fdset-id,omitempty"`
	Opaque string `json:"opaque,omitempty"`
}

// AddFD passes an open file to QEMU into a new descriptor set (add-fd). opaque is a
// note that query-fdsets shows. f stays the caller's.
func (c *Conn) AddFD(ctx context.Context, f *os.File, opaque string) (r FdsetFD, err error) {
	err = c.Do(ctx, "add-fd", addFD{Opaque: opaque}, &r, f)
	return r, err
}

// AddFDTo passes an open file to QEMU into a given descriptor set (add-fd).
func (c *Conn) AddFDTo(ctx context.Context, set int, f *os.File, opaque string) (r FdsetFD, err error) {
	err = c.Do(ctx, "add-fd", addFD{SetID: &set, Opaque: opaque}, &r, f)
	return r, err
}

// Fdset is a descriptor set (QAPI FdsetInfo): /dev/fdset/ID.
type Fdset struct {
	ID  int          `json:"fdset-id"`
	FDs []FdsetEntry `json:"fds"`
}

// FdsetEntry is a descriptor in an [Fdset] (QAPI FdsetFdInfo).
type FdsetEntry struct {
	FD     int    `json:"fd"` // its number in QEMU
	Opaque string `json:"opaque,omitempty"`
}

// QueryFdsets lists the descriptor sets (query-fdsets).
func (c *Conn) QueryFdsets(ctx context.Context) ([]Fdset, error) {
	return query[[]Fdset](ctx, c, "query-fdsets", nil)
}

// RemoveFD drops a descriptor from its set (remove-fd). QEMU closes it when nothing
// uses it.
func (c *Conn) RemoveFD(ctx context.Context, fd FdsetFD) error {
	return c.Do(ctx, "remove-fd", fd, nil)
}

// GetFD passes an open file to QEMU under a name (getfd), for arguments such as
// netdev_add's fd. f stays the caller's.
func (c *Conn) GetFD(ctx context.Context, name string, f *os.File) error {
	return c.Do(ctx, "getfd", fdName{name}, nil, f)
}

// CloseFD closes a descriptor that was passed with GetFD and not used (closefd).
func (c *Conn) CloseFD(ctx context.Context, name string) error {
	return c.Do(ctx, "closefd", fdName{name}, nil)
}

type fdName struct {
	Name string `json:"fdname"`
}
