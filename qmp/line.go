package qmp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

const (
	readBuffer = 4 << 10  // bytes held for an idle connection
	maxLine    = 16 << 20 // bytes of the longest reply that is accepted
)

// lineReader cuts a stream into lines. A long line gets a buffer of its own that
// is dropped afterwards, so one big reply does not stay in memory.
type lineReader struct {
	br  *bufio.Reader
	max int
}

func newLineReader(r io.Reader, max int) *lineReader {
	return &lineReader{br: bufio.NewReaderSize(r, readBuffer), max: max}
}

// next returns the next line without its end. It is valid until the next call.
// A line cut short by the end of the stream is [io.ErrUnexpectedEOF].
func (r *lineReader) next() ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		return r.long(line)
	}
	return bytes.TrimRight(line, "\r\n"), cutShort(line, err)
}

func (r *lineReader) long(head []byte) ([]byte, error) {
	line := append(make([]byte, 0, 4*len(head)), head...)
	for {
		part, err := r.br.ReadSlice('\n')
		if len(line)+len(part) > r.max {
			return nil, fmt.Errorf("%w: above %d bytes", ErrTooLong, r.max)
		}
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return bytes.TrimRight(line, "\r\n"), cutShort(line, err)
		}
	}
}

func cutShort(line []byte, err error) error {
	if err == io.EOF && len(line) > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}
