package disks

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Types of files in a cpio archive, as in stat(2).
const (
	cpioDir  = 0o040000
	cpioFile = 0o100000

	cpioAlign = 4
)

// cpio writes an archive in the form that the kernel unpacks as its initial RAM
// disk (Documentation/driver-api/early-userspace/buffer-format.rst, "newc"). All
// is root's. close tells the first error of all writes.
type cpio struct {
	w     *bufio.Writer
	inode int
	err   error
}

func newCPIO(w io.Writer) *cpio { return &cpio{w: bufio.NewWriterSize(w, 1<<20)} }

func (c *cpio) dir(name string) { c.entry(name, cpioDir|0o700, nil) }

func (c *cpio) file(name string, mode int, data []byte) { c.entry(name, cpioFile|mode, data) }

// entry writes a file; the directory that it is in comes before it. Names are
// relative to the root directory.
func (c *cpio) entry(name string, mode int, data []byte) {
	name = strings.TrimPrefix(name, "/") + "\x00"
	c.inode++
	header := "070701"
	for _, field := range []int{c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0} {
		header += fmt.Sprintf("%08x", field)
	}
	c.put([]byte(header + name))
	c.put(data)
}

// put pads what it writes.
func (c *cpio) put(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
	for n := len(b); n%cpioAlign != 0 && c.err == nil; n++ {
		c.err = c.w.WriteByte(0)
	}
}

func (c *cpio) close() error {
	c.entry("TRAILER!!!", 0, nil)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
