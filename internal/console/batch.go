package console

import (
	"context"
	"fmt"
	"time"
)

// waiting is the text without newline at the end of the source.
type waiting struct {
	offset int64 // where it begins
	since  time.Time
}

// drain logs what there is. The result is after which time to look again
// without being woken, 0 for never.
func (l *Log) drain(ctx context.Context) (time.Duration, error) {
	s := l.opts.Watcher.scratch.Get().(*scratch)
	defer l.opts.Watcher.scratch.Put(s)
	for ctx.Err() == nil {
		more, wait, err := l.drainSome(s)
		if !more || err != nil {
			return wait, err
		}
	}
	return 0, nil
}

func (l *Log) drainSome(s *scratch) (more bool, wait time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, 0, nil
	}
	more, err = l.step(s, false)
	if l.waiting.since.IsZero() {
		return more, 0, err
	}
	// At least a moment: 0 is never.
	return more, max(time.Millisecond, showPartialAfter-time.Since(l.waiting.since)), err
}

// step logs one batch. More is false when there was nothing to log. Final says
// that the source does not grow any more.
func (l *Log) step(s *scratch, final bool) (more bool, err error) {
	if err := l.skip(s); err != nil {
		return false, err
	}
	if l.file == nil {
		return l.discard()
	}
	n, last, err := l.source.read(s.raw[:], l.pos.Offset)
	if err != nil {
		return false, err
	}
	l.see(n > 0)
	next := l.begin(s)
	used := s.lines.fill(s.raw[:n], l.restOf(last, final))
	if len(s.lines.out) == 0 {
		l.wait(s.raw[:n])
		return false, nil
	}
	l.waiting = waiting{}
	next.Offset += int64(used)
	next.Open, next.Dropped = s.lines.open, 0
	if err := l.commit(next, s.lines.out); err != nil {
		return false, err
	}
	l.source.free(l.pos.Offset)
	return true, nil
}

// see notices the first output.
func (l *Log) see(any bool) {
	if l.seen || !any {
		return
	}
	l.seen = true
	if l.opts.OnFirst != nil {
		l.opts.OnFirst()
	}
}

// begin starts a batch and its position. Times never go back, whatever the
// clock does. Dropped output is told of first.
func (l *Log) begin(s *scratch) position {
	next := l.pos
	next.Time = max(next.Time, l.now().UnixNano())
	s.lines.begin(time.Unix(0, next.Time), next.Open)
	if next.Dropped > 0 {
		s.lines.note(fmt.Sprintf("%d bytes of console output were dropped here: more came than could be logged", next.Dropped))
		next.Dropped = 0
	}
	return next
}

// restOf says what becomes of text after the last newline of the bytes read.
func (l *Log) restOf(last, final bool) rest {
	switch {
	case !last:
		return restWaits
	case final:
		return restIsFinal
	case l.waiting.offset == l.pos.Offset && !l.waiting.since.IsZero() && time.Since(l.waiting.since) >= showPartialAfter:
		return restShows
	}
	return restWaits
}

// wait remembers since when text has been waiting for its newline.
func (l *Log) wait(text []byte) {
	if len(trimCR(text)) == 0 {
		l.waiting = waiting{}
		return
	}
	if l.waiting.since.IsZero() || l.waiting.offset != l.pos.Offset {
		l.waiting = waiting{offset: l.pos.Offset, since: time.Now()}
	}
}

// skip drops the older part of a backlog that is too large: half of what is
// allowed is kept, so that it does not happen at every step. The log says so
// with the next line that can be written.
func (l *Log) skip(s *scratch) error {
	size, err := l.source.size()
	if err != nil {
		return err
	}
	if size < l.pos.Offset { // cut by someone
		l.pos.Offset = l.source.dataFrom(0)
		l.source.punched, l.source.tried = 0, 0
	}
	if size-l.pos.Offset <= l.opts.MaxBacklog {
		return nil
	}
	next := l.pos
	next.Offset = l.source.lineFrom(s.raw[:], size-l.opts.MaxBacklog/2)
	next.Dropped += next.Offset - l.pos.Offset
	if err := l.commit(next, nil); err != nil {
		return err
	}
	l.source.free(l.pos.Offset)
	return nil
}

// discard consumes all there is without logging it.
func (l *Log) discard() (more bool, err error) {
	size, err := l.source.size()
	if err != nil || size == l.pos.Offset {
		return false, err
	}
	l.see(size > 0)
	next := l.pos
	next.Offset, next.Dropped, next.Open = size, 0, false
	if err := l.commit(next, nil); err != nil {
		return false, err
	}
	l.source.free(l.pos.Offset)
	return true, nil
}

// commit writes the lines and makes next the position.
//
// The position is written first, with the lines' checksum and the place they
// will have; then the lines. Killed before, between or within the two, the next
// daemon sees in the log file whether the lines are there, and else goes on
// from the position before, which is still in the other slot (see restore).
func (l *Log) commit(next position, lines []byte) error {
	next.Seq = l.pos.Seq + 1
	next.File, next.Size, next.Length, next.Sum = identity{}, 0, int64(len(lines)), checksum(lines)
	var size int64
	if l.file != nil {
		var err error
		if size, err = l.place(); err != nil {
			return err
		}
		next.File, next.Size = l.file.id, size+next.Length
	}
	if err := l.positions.intend(next); err != nil {
		return err
	}
	if len(lines) > 0 {
		if err := l.file.append(lines, size); err != nil {
			return err
		}
	}
	l.positions.commit()
	l.pos = next
	return nil
}

// place is the size of the log file. A file that was removed is made again, if
// its directory is still there: what nobody can open is no log.
func (l *Log) place() (int64, error) {
	size, removed, err := l.file.size()
	if err != nil || !removed {
		return size, err
	}
	f, _, err := openLogFile(l.opts.Path)
	if err != nil {
		return size, nil
	}
	_ = l.file.f.Close()
	l.file = f
	size, _, err = f.size()
	return size, err
}
