package bench

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// thread is an operating system thread in a network namespace. The programs that are started on it are in there too, as
// those are that the daemon starts, without nsenter's part in their time.
type thread struct{ calls chan func() }

// newThread makes a thread inside the namespace at path. It ends with the test.
func newThread(tb testing.TB, path string) *thread {
	tb.Helper()
	t := &thread{calls: make(chan func())}
	entered := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lockThread()
		entered <- enter(path)
		for call := range t.calls {
			call()
		}
	}()
	tb.Cleanup(func() {
		close(t.calls)
		<-ended
	})
	must(tb, <-entered)
	return t
}

func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// do calls f on the thread and returns what it returned.
func (t *thread) do(f func() error) error {
	done := make(chan error, 1)
	t.calls <- func() { done <- f() }
	return <-done
}

// lockThread binds the calling goroutine to its thread for good: the thread ends with it.
func lockThread() { runtime.LockOSThread() }
