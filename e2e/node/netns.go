package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a named network namespace with its loopback up.
type namespace struct{ name string }

func newNamespace(name string) (namespace, error) {
	ns := namespace{name}
	if err := command("ip", "netns", "add", name); err != nil {
		return ns, err
	}
	return ns, command("ip", "-n", name, "link", "set", "lo", "up")
}

func (ns namespace) path() string { return "/run/netns/" + ns.name }

func (ns namespace) remove() error { return command("ip", "netns", "del", ns.name) }

// enter prefixes a command line so that it runs inside. "ip netns exec" would hide the cgroups.
func (ns namespace) enter(argv ...string) []string {
	return append([]string{"nsenter", "--net=" + ns.path()}, argv...)
}

// do calls f on a thread that is inside. Sockets keep the namespace they were made in.
func (ns namespace) do(f func() error) error { return InNamespace(ns.path(), f) }

// InNamespace calls f on a thread that is inside the network namespace of a file.
func InNamespace(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked, and so ends with this goroutine instead of going back into the pool.
		runtime.LockOSThread()
		done <- func() error {
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter network namespace %s: %w", path, err)
			}
			return f()
		}()
	}()
	return <-done
}

// dial connects from inside; address must be numeric.
func (ns namespace) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = ns.do(func() error {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (ns namespace) listen(address string) (l net.Listener, err error) {
	err = ns.do(func() error {
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// links returns the names of the links inside, without lo.
func (ns namespace) links() (names []string, err error) {
	err = ns.do(func() error {
		all, err := net.Interfaces()
		for _, i := range all {
			if i.Flags&net.FlagLoopback == 0 {
				names = append(names, i.Name)
			}
		}
		return err
	})
	return names, err
}

// inode identifies the namespace, in the form of the links in /proc/PID/ns.
func (ns namespace) inode() string {
	var st unix.Stat_t
	if unix.Stat(ns.path(), &st) != nil {
		return ""
	}
	return fmt.Sprintf("net:[%d]", st.Ino)
}

// command runs a program for its effect; its output is in the error.
func command(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
