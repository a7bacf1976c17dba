package console

// restore finds the position from which a Log goes on: the latest whose lines
// are in the log file. Lines that were being written when the daemon died are
// completed, by taking back what there is of them.
func (l *Log) restore() error {
	found, slot, err := l.positions.load()
	if err != nil || len(found) == 0 {
		return err
	}
	good, err := l.wasWritten(found[0])
	if err != nil {
		return err
	}
	if good {
		l.pos, l.positions.last = found[0], slot[0]
		return nil
	}
	if len(found) == 2 {
		l.pos, l.positions.last = found[1], slot[1]
		return nil
	}
	l.positions.last = 1 - slot[0] // keep none, and write over the bad one next
	return nil
}

// wasWritten reports whether the lines that p counts have reached the log
// file, and removes those that have reached it in part.
func (l *Log) wasWritten(p position) (bool, error) {
	if p.Length == 0 {
		return true, nil
	}
	f, release, err := l.fileOf(p)
	if err != nil || f == nil {
		return true, err // removed by now, or compressed: with the lines
	}
	defer release()
	size, _, err := f.size()
	switch {
	case err != nil:
		return false, err
	case size >= p.Size:
		// Other bytes in that place are not ours. They stay.
		return f.has(p)
	case size >= p.Size-p.Length:
		return false, f.f.Truncate(p.Size - p.Length)
	}
	return true, nil // cut shorter by someone, who did not want what was there
}

// fileOf is the log file p speaks of, nil when it cannot be found. It may have
// been renamed while no daemon ran.
func (l *Log) fileOf(p position) (_ *logFile, release func(), err error) {
	if l.file == nil {
		return nil, nil, nil
	}
	if l.file.id == p.File {
		return l.file, func() {}, nil
	}
	f, err := findRotated(l.opts.Path, p.File)
	if f == nil {
		return nil, nil, err
	}
	return f, func() { _ = f.f.Close() }, nil
}
