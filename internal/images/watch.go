package images

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// changes are the entries of a directory that were made, replaced or removed.
type changes struct {
	all   bool // or too many to tell
	names map[string]bool
}

func (c *changes) add(name string) {
	if c.names == nil {
		c.names = map[string]bool{}
	}
	c.names[name] = true
}

// watch tells what has changed in two directories (inotify(7)), whoever did it.
// The kernel queues an event before the call that caused it returns, so what is
// there after drain is all there was. A nil watch is for a system that gives us
// none: then everything may have changed. It is not safe for concurrent use.
type watch struct {
	fd                int
	dataDir, linksDir string
	data, links       int32 // watch descriptors
	lost              bool  // a directory that is watched is no longer ours
	buf               [16 << 10]byte
}

const watchedEvents = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// newWatch watches from now on. The caller ends it with close.
func newWatch(dataDir, linksDir string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	w := &watch{fd: fd, dataDir: dataDir, linksDir: linksDir}
	if err := w.look(); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return w, nil
}

// look begins to watch the directories that go by the names now.
func (w *watch) look() (err error) {
	if w.data, err = w.add(w.dataDir); err != nil {
		return err
	}
	w.links, err = w.add(w.linksDir)
	return err
}

func (w *watch) add(dir string) (int32, error) {
	wd, err := unix.InotifyAddWatch(w.fd, dir, watchedEvents)
	if err != nil {
		return 0, &os.PathError{Op: "inotify_add_watch", Path: dir, Err: err}
	}
	return int32(wd), nil
}

func (w *watch) close() error {
	if w == nil {
		return nil
	}
	return unix.Close(w.fd)
}

// drain returns what has changed since the last call.
func (w *watch) drain() (data, links changes) {
	if w == nil {
		return changes{all: true}, changes{all: true}
	}
	for {
		n, err := unix.Read(w.fd, w.buf[:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if w.lost {
				w.lost = w.look() != nil
				return changes{all: true}, changes{all: true}
			}
			return data, links
		case err != nil || n <= 0:
			return changes{all: true}, changes{all: true}
		default:
			w.sort(w.buf[:n], &data, &links)
		}
	}
}

// sort reads events: a struct inotify_event each, and the name behind it.
func (w *watch) sort(raw []byte, data, links *changes) {
	for len(raw) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(raw))
		mask := binary.NativeEndian.Uint32(raw[unsafe.Offsetof(unix.InotifyEvent{}.Mask):])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(raw[unsafe.Offsetof(unix.InotifyEvent{}.Len):]))
		name, _, _ := bytes.Cut(raw[unix.SizeofInotifyEvent:end], []byte{0})
		raw = raw[end:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			data.all, links.all = true, true
		case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0:
			w.lost = true
		case wd == w.data:
			data.add(string(name))
		case wd == w.links:
			links.add(string(name))
		}
	}
}
