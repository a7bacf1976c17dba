package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	defaultMaxBacklog = 64 << 20
	showPartialAfter  = time.Second
	retryAfter        = time.Second
)

// LogOptions say what a Log reads and writes.
type LogOptions struct {
	// Source is the file QEMU appends the console's output to (QAPI's
	// ChardevFile with append). It must exist. How far it was read is kept
	// beside it, in a file of the same name with the ending ".pos" in place of
	// its own.
	Source string
	// Path is the log file as the CRI has it (PodSandboxConfig.log_directory
	// and ContainerConfig.log_path joined). It is made when missing, its
	// directory is not. "" discards the output.
	Path string
	// Watcher tells of new output. Required.
	Watcher *Watcher
	// MaxBacklog is how many bytes of the source may wait to be logged. Of more
	// the older part is dropped, and a line in the log says so. Default 64 MiB.
	MaxBacklog int64
	// OnError, if set, is called by Run with an error that keeps it from
	// logging, such as a full disk, when it is new; Run tries again every
	// second. It must not call the Log.
	OnError func(error)
	// OnFirst, if set, is called when the first output of the VM is seen, by
	// the first Log for its Source. It must not call the Log.
	OnFirst func()
}

// Log copies a VM's console output into its log file, each byte exactly once,
// whatever happens to the daemon in between. It is safe for concurrent use.
type Log struct {
	opts LogOptions
	now  func() time.Time
	wake chan struct{} // capacity 1
	done chan struct{} // closed with the Log

	mu        sync.Mutex // held for one batch at most
	source    *source
	positions *positions
	file      *logFile // nil when the output is discarded
	pos       position
	waiting   waiting
	seen      bool // there was output
	closed    bool
	finished  bool
}

// scratch is the memory for one batch.
type scratch struct {
	raw   [32 << 10]byte // more than maxPiece: a full one always has a piece
	lines lines
}

// OpenLog opens the files and finds the position of an earlier Log for the
// same Source. The caller starts Run, and must Close the Log.
func OpenLog(o LogOptions) (*Log, error) {
	if o.Watcher == nil {
		return nil, fmt.Errorf("console log %s: %w", o.Source, errNoWatcher)
	}
	if o.MaxBacklog <= 0 {
		o.MaxBacklog = defaultMaxBacklog
	}
	l := &Log{opts: o, now: time.Now, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Log) open() (err error) {
	if l.source, err = openSource(l.opts.Source); err != nil {
		return err
	}
	if l.opts.Path != "" {
		if l.file, _, err = openLogFile(l.opts.Path); err != nil {
			return err
		}
	}
	if l.positions, err = openPositions(positionPath(l.opts.Source)); err != nil {
		return err
	}
	if err := l.restore(); err != nil {
		return err
	}
	l.seen = l.pos.Offset > 0
	// Where the position was lost, what was freed cannot be logged again.
	l.pos.Offset = l.source.dataFrom(l.pos.Offset)
	return nil
}

// Run logs the console's output as it comes, until ctx ends or the Log is
// closed. A text without newline, such as a login prompt, is logged after a
// second. The error is the one that kept it from logging last, if any.
func (l *Log) Run(ctx context.Context) error {
	remove, err := l.watch()
	if err != nil || remove == nil {
		return err
	}
	defer remove()
	var failed error
	for {
		wait, err := l.drain(ctx)
		l.report(failed, err)
		failed = err
		if !l.await(ctx, wait, err != nil) {
			return failed
		}
	}
}

// watch is without a result when the Log is closed.
func (l *Log) watch() (remove func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil
	}
	return l.opts.Watcher.add(l.source.f, l.wake)
}

func (l *Log) report(before, now error) {
	if now != nil && before == nil && l.opts.OnError != nil {
		l.opts.OnError(now)
	}
}

// await waits for new output, or for the given time if that is not zero. When
// writing fails, new output is no reason to try. It is false at the end.
func (l *Log) await(ctx context.Context, wait time.Duration, failing bool) bool {
	wake := l.wake
	if failing {
		wake, wait = nil, retryAfter
	}
	var late <-chan time.Time
	if wait > 0 {
		late = time.After(wait)
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.done:
		return false
	case <-wake:
	case <-late:
	}
	return true
}

// Reopen continues in a new file at Path, after the old one was renamed (CRI
// ReopenContainerLog). On an error the old file is written on, and no new one
// is left behind.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("reopen log file %s: log is closed: %w", l.opts.Path, os.ErrClosed)
	}
	if l.opts.Path == "" {
		return nil
	}
	return l.reopen()
}

func (l *Log) reopen() error {
	f, made, err := openLogFile(l.opts.Path)
	if err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	old := l.file
	l.file = f
	if err := l.commit(l.pos, nil); err != nil {
		_ = l.file.f.Close()
		l.file = old
		if made {
			err = errors.Join(err, os.Remove(l.opts.Path))
		}
		return fmt.Errorf("reopen: %w", err)
	}
	// Everything in it was written: an error here must not undo the rotation.
	_ = old.f.Close()
	return nil
}

// Note writes text into the log as the daemon's own word: on lines of their
// own that begin with "qemulet: ".
func (l *Log) Note(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("note in log file %s: log is closed: %w", l.opts.Path, os.ErrClosed)
	}
	if l.file == nil {
		return nil
	}
	s := l.opts.Watcher.scratch.Get().(*scratch)
	defer l.opts.Watcher.scratch.Put(s)
	next := l.begin(s)
	s.lines.note(text)
	next.Open = s.lines.open
	return l.commit(next, s.lines.out)
}

// Finish logs what is left of a VM that has ended, a last text without newline
// as a full line, and closes the Log. After an error, also ctx's, the Log is
// still open, and Finish may be tried again. The file is not synced to disk.
func (l *Log) Finish(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("finish log file %s: %w", l.opts.Path, err)
		}
		if done, err := l.finishSome(); done || err != nil {
			return err
		}
	}
}

func (l *Log) finishSome() (done bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		return true, nil
	}
	if l.closed {
		return false, fmt.Errorf("finish log file %s: log is closed: %w", l.opts.Path, os.ErrClosed)
	}
	s := l.opts.Watcher.scratch.Get().(*scratch)
	defer l.opts.Watcher.scratch.Put(s)
	if more, err := l.step(s, true); more || err != nil {
		return false, err
	}
	l.finished = true
	return true, l.close()
}

// Close releases the files and ends Run. The position stays, for a later Log
// to go on from. It may be called more than once, and after Finish.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

func (l *Log) close() error {
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	var errs []error
	if l.source != nil {
		errs = append(errs, l.source.f.Close())
	}
	if l.positions != nil {
		errs = append(errs, l.positions.f.Close())
	}
	if l.file != nil {
		errs = append(errs, l.file.f.Close())
	}
	return errors.Join(errs...)
}
