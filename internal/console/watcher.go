package console

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// coalesce is the pause after events were read. A serial port is written byte
// by byte; without the pause each would cost a turn of two goroutines.
const coalesce = 10 * time.Millisecond

// Watcher tells Logs that their files have grown. One inotify instance and one
// goroutine serve all Logs of a daemon (the kernel limits instances per user to
// 128). It is safe for concurrent use, and is to be closed after its Logs.
type Watcher struct {
	f       *os.File
	closing chan struct{}
	done    chan struct{}
	scratch sync.Pool // of *scratch, for Logs at work

	mu      sync.Mutex
	closed  bool
	watches map[int32][]chan<- struct{}
}

// NewWatcher opens an inotify instance (inotify(7)). The caller closes it.
func NewWatcher() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify instance for console logs (limit: sysctl fs.inotify.max_user_instances): %w", err)
	}
	w := &Watcher{
		f:       os.NewFile(uintptr(fd), "inotify"),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		watches: map[int32][]chan<- struct{}{},
	}
	w.scratch.New = func() any { return new(scratch) }
	go w.read()
	return w, nil
}

// Close ends the watcher and its goroutine. Logs that still run are not woken
// any more. It may be called more than once.
func (w *Watcher) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.done
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	close(w.closing)
	err := w.f.Close()
	<-w.done
	return err
}

// add has wake, of capacity 1, filled whenever the open file changes. The
// result ends that.
func (w *Watcher) add(file *os.File, wake chan<- struct{}) (remove func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// By descriptor, so that it is this file whatever its name is by now.
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	var wd int
	err = w.control(func(fd int) (err error) {
		wd, err = unix.InotifyAddWatch(fd, path, unix.IN_MODIFY)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("inotify watch of %s (limit: sysctl fs.inotify.max_user_watches): %w", file.Name(), err)
	}
	w.watches[int32(wd)] = append(w.watches[int32(wd)], wake)
	return func() { w.remove(int32(wd), wake) }, nil
}

// remove forgets one wake channel, and the watch with the last of them: the
// kernel has one watch per file, however many wait for it.
func (w *Watcher) remove(wd int32, wake chan<- struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.watches[wd][:0:0]
	for _, c := range w.watches[wd] {
		if c != wake {
			rest = append(rest, c)
		}
	}
	if len(rest) > 0 {
		w.watches[wd] = rest
		return
	}
	delete(w.watches, wd)
	// It fails only when the file or the instance is gone, and the watch with it.
	_ = w.control(func(fd int) error {
		_, err := unix.InotifyRmWatch(fd, uint32(wd))
		return err
	})
}

func (w *Watcher) control(do func(fd int) error) error {
	rc, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := rc.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}

func (w *Watcher) read() {
	defer close(w.done)
	buf := make([]byte, 4<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			// Closed. inotify has no other error, except for a short buffer.
			return
		}
		w.dispatch(buf[:n])
		select {
		case <-w.closing:
			return
		case <-time.After(coalesce):
		}
	}
}

// dispatch wakes by the events in b (struct inotify_event, without names as
// only files are watched).
func (w *Watcher) dispatch(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		b = b[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])):]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			w.wakeAll()
			continue
		}
		wake(w.watches[wd])
	}
}

func (w *Watcher) wakeAll() {
	for _, cs := range w.watches {
		wake(cs)
	}
}

func wake(cs []chan<- struct{}) {
	for _, c := range cs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

var errNoWatcher = errors.New("a Log needs a Watcher")
