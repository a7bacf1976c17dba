package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on an operating-system thread of its own that is never used for anything else: it dies with its
// goroutine. So fn may change the thread's namespaces, and need not put them back.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot die, and is what /proc/self shows of the process. Holding it makes the runtime take
			// another one for the work.
			defer runtime.UnlockOSThread()
			done <- onThread(fn)
			return
		}
		done <- fn()
	}()
	return <-done
}

// within runs fn inside a network namespace. Sockets and devices that fn opens stay there.
func within(ns *os.File, fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("netns: enter network namespace %s: %w", ns.Name(), err)
		}
		return fn()
	})
}
