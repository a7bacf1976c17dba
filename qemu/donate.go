package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the room in sockaddr_un, less the final zero byte (unix(7)).
const maxSocketPath = 107

// socketPath is where a machine's socket is.
func socketPath(runDir, name string) (string, error) {
	path := filepath.Join(runDir, name+".sock")
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("socket path %s has %d bytes: at most %d are possible, use a shorter run directory", path, len(path), maxSocketPath)
	}
	return path, nil
}

// donation is what a process is born with: the files in the order of their
// numbers, from firstFD on. Those it has opened itself it closes.
type donation struct {
	files []*os.File
	own   []*os.File
	// conns has a connection to the monitor, by the socket's name. It was made
	// before there was a process to accept it, so that its death, however early,
	// is its end.
	conns map[string]net.Conn
	paths []string // of the sockets and FIFOs
}

// donate opens and binds what the invocation needs beside the caller's files.
// On an error nothing stays.
func donate(ctx context.Context, inv Invocation, runDir string, files map[string]*os.File) (*donation, error) {
	d := &donation{files: make([]*os.File, len(inv.Sockets)+2*len(inv.Pipes)+len(inv.Files)), conns: map[string]net.Conn{}}
	err := d.fill(ctx, inv, runDir, files)
	if err != nil {
		d.undo()
		return nil, err
	}
	return d, nil
}

func (d *donation) fill(ctx context.Context, inv Invocation, runDir string, files map[string]*os.File) error {
	for _, n := range inv.Files {
		f := files[n.Name]
		if f == nil {
			return fmt.Errorf("the file %q of the invocation was not given", n.Name)
		}
		if err := d.put(n.Name, n.FD, f); err != nil {
			return err
		}
	}
	for _, s := range inv.Sockets {
		f, err := d.listen(ctx, runDir, s.Name)
		if err != nil {
			return err
		}
		if err := d.put(s.Name, s.FD, f); err != nil {
			return err
		}
	}
	for _, p := range inv.Pipes {
		if err := d.pipe(runDir, p); err != nil {
			return err
		}
	}
	return nil
}

// pipePath is where a machine's FIFO is.
func pipePath(runDir, name string) string { return filepath.Join(runDir, name+".in") }

// AgentPath is the socket, in a machine's run directory, that leads to the
// guest agent (qmp.DialAgent).
func AgentPath(runDir string) string { return filepath.Join(runDir, SocketAgent+".sock") }

// ConsoleInputPath is the FIFO, in a machine's run directory, that is typed into.
func ConsoleInputPath(runDir string) string { return pipePath(runDir, PipeConsole) }

// pipe makes a FIFO, for the owner of this process only, in place of one that
// an earlier process has left, and opens both its descriptors.
func (d *donation) pipe(runDir string, n PipeNeed) error {
	path := pipePath(runDir, n.Name)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	d.paths = append(d.paths, path)
	// Open for both first: to open for reading waits for a writer.
	for _, end := range []struct{ fd, flags int }{{n.KeepFD, os.O_RDWR}, {n.ReadFD, os.O_RDONLY}} {
		f, err := os.OpenFile(path, end.flags, 0)
		if err != nil {
			return err
		}
		d.own = append(d.own, f)
		if err := d.put(n.Name, end.fd, f); err != nil {
			return err
		}
	}
	return nil
}

// put assigns a number. The invocation numbers without a gap.
func (d *donation) put(name string, fd int, f *os.File) error {
	i := fd - firstFD
	if i < 0 || i >= len(d.files) || d.files[i] != nil {
		return fmt.Errorf("descriptor %d of %q: the invocation has to number %d descriptors from %d on, each once", fd, name, len(d.files), firstFD)
	}
	d.files[i] = f
	return nil
}

// listen binds a socket, for the owner of this process only, and connects to it
// if it is the monitor's: to others it is connected when they are needed.
func (d *donation) listen(ctx context.Context, runDir, name string) (*os.File, error) {
	path, err := socketPath(runDir, name)
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// A socket's mode is set before it has a name.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if e := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	d.paths = append(d.paths, path)
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		return nil, err
	}
	d.own = append(d.own, f)
	if name == SocketQMP {
		d.conns[name], err = (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return f, err
}

// removeStale removes a socket that an earlier process has left. One that takes
// connections is somebody's.
func removeStale(path string) error {
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("socket %s is in use: a running process listens on it", path)
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, unix.ENOENT):
		return nil
	}
	return err
}

// given closes our copies, when the process has its own: from now on a socket
// ends with the process.
func (d *donation) given() {
	for _, f := range d.own {
		f.Close()
	}
	d.own = nil
}

// take hands over the connection to a socket; nil if there is none.
func (d *donation) take(name string) net.Conn {
	c := d.conns[name]
	delete(d.conns, name)
	return c
}

// undo closes and removes all that is left.
func (d *donation) undo() {
	d.given()
	for _, c := range d.conns {
		if c != nil {
			c.Close()
		}
	}
	removeSockets(d.paths)
}

func removeSockets(paths []string) {
	for _, p := range paths {
		os.Remove(p)
	}
}
