package console

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOneWatcherForManyLogs(t *testing.T) {
	w, err := NewWatcher()
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	var all []*fixture
	for range 30 {
		f := fixtureWith(t, w)
		f.run(f.open())
		all = append(all, f)
	}
	for i, f := range all {
		f.says(fmt.Sprintf("guest %d\n", i))
	}
	for i, f := range all {
		want := fmt.Sprintf("F guest %d\n", i)
		eventually(t, want, func() bool { return short(f.logged()) == want })
	}
}

func TestTwoWaitForTheSameFile(t *testing.T) {
	f := newFixture(t)
	a, b := make(chan struct{}, 1), make(chan struct{}, 1)
	removeA, err := f.options.Watcher.add(f.guest, a)
	must(t, err)
	removeB, err := f.options.Watcher.add(f.guest, b)
	must(t, err)
	f.says("x")
	<-a
	<-b
	removeA()
	f.says("x")
	<-b
	removeB()
	equal(t, len(f.options.Watcher.watches), 0)
}

func TestOverflowWakesAll(t *testing.T) {
	f := newFixture(t)
	c := make(chan struct{}, 1)
	remove, err := f.options.Watcher.add(f.guest, c)
	must(t, err)
	defer remove()
	event := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(event, ^uint32(0))
	binary.NativeEndian.PutUint32(event[4:], unix.IN_Q_OVERFLOW)
	f.options.Watcher.dispatch(event)
	<-c
}

func TestClosedWatcher(t *testing.T) {
	w, err := NewWatcher()
	must(t, err)
	must(t, w.Close())
	must(t, w.Close())
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	if _, err := w.add(f, make(chan struct{}, 1)); err == nil || !strings.Contains(err.Error(), f.Name()) {
		t.Fatalf("got %v", err)
	}
}
