package images

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

// intake writes what a source sends into a part file: once through hash,
// decompression and format check.
type intake struct {
	part    *part
	maxSize int64 // bytes of the disk, 0 is no limit
	isDisk  func(head []byte) bool
	archive bool // the disk may be in a tar archive

	received *received
	packed   bool // the source sends the disk compressed or in an archive
	sniffed  bool
	deleted  []string // what the layers above have taken out of /disk
}

const (
	// inflation is how many bytes, zeros not counted, may come out of one byte:
	// what disks hold compresses to a tenth perhaps, bombs to a thousandth.
	inflation = 100
	// inflationFree bytes may come out of anything.
	inflationFree = 256 << 20
)

// fill reads r to its end, anew whenever it says errStartOver. It returns the
// digest of all that r sent, in hex.
func (in *intake) fill(r io.Reader) (string, error) {
	for {
		sum, err := in.fillOnce(r)
		if !errors.Is(err, errStartOver) {
			return sum, err
		}
		if err := in.empty(); err != nil {
			return "", err
		}
	}
}

// empty forgets what was read.
func (in *intake) empty() error {
	in.packed, in.sniffed = false, false
	if in.part.size() == 0 {
		return nil
	}
	return in.part.reset()
}

func (in *intake) fillOnce(r io.Reader) (sum string, err error) {
	in.received = &received{r: r}
	b := bufio.NewReaderSize(in.received, peekLen)
	head, err := peek(b)
	if err != nil {
		return "", err
	}
	if in.packed = compression(head) != plain || in.archive && isTar(head); in.packed {
		sum, err = in.fillPacked(b)
	} else {
		// What is stored is what is sent: one hash does for both.
		err = in.store(b)
		sum = in.part.hash.sum()
	}
	if in.received.err != nil {
		err = in.received.err // and not what somebody on the way made of it
	}
	return sum, err
}

func (in *intake) fillPacked(r io.Reader) (string, error) {
	sum := sha256.New()
	r = io.TeeReader(r, sum)
	verdict := in.unpack(r, false)
	if verdict != nil && !errors.Is(verdict, errNoDisk) {
		return "", verdict
	}
	// What nobody cared for, such as padding, was sent as well.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), verdict
}

func peek(b *bufio.Reader) ([]byte, error) {
	head, err := b.Peek(peekLen)
	if err == io.EOF {
		err = nil
	}
	return head, err
}

// received is what came from a source, whatever is made of it.
type received struct {
	r   io.Reader
	n   int64
	err error
}

func (c *received) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// store appends a disk to the part, and refuses early what is none.
func (in *intake) store(r io.Reader) error {
	err := in.part.readFrom(r, func() error { return in.look(in.part.size() >= sniffLen) })
	if err != nil {
		return err
	}
	if in.part.size() == 0 {
		return refused(errors.New("the file is empty"))
	}
	return in.look(true)
}

// look checks what has arrived: its length, and its first bytes once there are
// enough of them or all of them.
func (in *intake) look(final bool) error {
	if err := in.checkSize(in.part.size()); err != nil {
		return err
	}
	if in.packed && in.part.written > inflationFree && in.part.written/inflation > in.received.n {
		return refused(fmt.Errorf("%d bytes have come out of %d compressed ones, more than %d times as many", in.part.written, in.received.n, inflation))
	}
	if in.sniffed || in.part.size() < sniffEarly && !final {
		return nil
	}
	in.sniffed = final
	head, err := in.part.head(sniffLen)
	if err != nil {
		return err
	}
	if what := looksLike(head); what != "" {
		return refused(fmt.Errorf("it looks like %s", what))
	}
	if final && !in.isDisk(head) {
		return refused(errors.New("it is no qcow2 image, and has neither a partition table nor a file system that is known"))
	}
	return nil
}

func (in *intake) checkSize(n int64) error {
	if in.maxSize > 0 && n > in.maxSize {
		return fmt.Errorf("file of %d bytes or more is over the limit of %d bytes: %w", n, in.maxSize, errdefs.ErrResourceExhausted)
	}
	return nil
}

// announced makes room for what is going to be sent.
func (in *intake) announced(total int64) error {
	if err := in.checkSize(total); err != nil {
		return err
	}
	if total == in.part.size() {
		return nil
	}
	return in.part.reserve(total)
}
