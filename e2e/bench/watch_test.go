package bench

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// made tells the moment when the first file is made in a folder from now on.
type made struct {
	events *os.File
	at     chan time.Time
}

func watchMade(b *testing.B, dir string) *made {
	b.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	must(b, err)
	m := &made{events: os.NewFile(uintptr(fd), "inotify"), at: make(chan time.Time, 1)}
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE)
	must(b, err)
	go func() {
		if _, err := m.events.Read(make([]byte, 4096)); err == nil {
			m.at <- time.Now()
		}
		close(m.at)
	}()
	return m
}

// moment ends the watch; the zero time if no file was made.
func (m *made) moment() time.Time {
	_ = m.events.SetReadDeadline(time.Now())
	at := <-m.at
	_ = m.events.Close()
	return at
}
