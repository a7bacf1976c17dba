package console

import (
	"bytes"
	"time"
)

const (
	// maxPiece is the longest text of one line in the log file, in bytes, as
	// containerd has it. Longer lines become several: P, P, ... F.
	maxPiece = 16 << 10
	// maxBatch is about how much is written to the log file at once: one write,
	// one position.
	maxBatch = 32 << 10

	// timeLayout is RFC 3339 with all nine digits, so that lines align.
	timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

	partial = 'P'
	full    = 'F'
)

// rest says what is to become of text after the last newline.
type rest int

const (
	restWaits   rest = iota // it may still grow
	restShows               // it has waited long enough (a login prompt): as P
	restIsFinal             // nothing will come: as F
)

// lines collects lines in the CRI's log format: time, stream, tag, text
// (kubernetes/design-proposals: kubelet-cri-logging).
type lines struct {
	out    []byte
	prefix []byte // time and stream, the same for the whole batch
	open   bool   // the last line written was a P: its line goes on
}

// begin empties l for a batch of the given time.
func (l *lines) begin(at time.Time, open bool) {
	l.out, l.open = l.out[:0], open
	l.prefix = at.UTC().AppendFormat(l.prefix[:0], timeLayout)
	l.prefix = append(l.prefix, " stdout "...)
}

func (l *lines) add(tag byte, text []byte) {
	l.out = append(l.out, l.prefix...)
	l.out = append(l.out, tag, ' ')
	l.out = append(l.out, text...)
	l.out = append(l.out, '\n')
	l.open = tag == partial
}

// fill adds what raw says, up to about maxBatch, and returns how many bytes of
// raw that was.
func (l *lines) fill(raw []byte, r rest) int {
	used := 0
	for len(l.out) < maxBatch {
		text, n, tag := piece(raw[used:], r, l.open)
		if tag == 0 {
			break
		}
		l.add(tag, text)
		used += n
	}
	return used
}

// note adds a line of the daemon's own, on a line of its own.
func (l *lines) note(text string) {
	if l.open {
		l.add(full, nil)
	}
	for line := range bytes.Lines([]byte(text)) {
		line = append([]byte("qemulet: "), trimCR(bytes.TrimSuffix(line, []byte("\n")))...)
		for len(line) > maxPiece {
			l.add(partial, line[:maxPiece])
			line = line[maxPiece:]
		}
		l.add(full, line)
	}
}

// piece finds the next line, or part of one, at the start of raw: its text,
// how many bytes of raw it takes, and its tag, 0 when there is none yet.
func piece(raw []byte, r rest, open bool) (text []byte, n int, tag byte) {
	line, _, terminated := bytes.Cut(raw, []byte("\n"))
	text = trimCR(line)
	switch {
	case terminated && len(text) <= maxPiece:
		return text, len(line) + 1, full
	case len(line) > maxPiece:
		text = head(line)
		return text, len(text), partial
	case r == restShows && len(text) > 0:
		return text, len(text), partial
	case r == restIsFinal && (len(text) > 0 || open):
		return text, len(line), full
	}
	return nil, 0, 0
}

// head is as much of line as fits. It does not end in a carriage return, which
// may turn out to belong to the line's end.
func head(line []byte) []byte {
	if text := trimCR(line[:maxPiece]); len(text) > 0 {
		return text
	}
	return line[:maxPiece]
}

// trimCR drops carriage returns at the end: terminals send one before a
// newline, and sometimes (firmware, nested terminals) two.
func trimCR(b []byte) []byte { return bytes.TrimRight(b, "\r") }
