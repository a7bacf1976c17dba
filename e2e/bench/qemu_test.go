package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bareQEMU is a QEMU that nobody supervises.
type bareQEMU struct {
	cmd     *exec.Cmd
	files   []*os.File // that it inherits
	conns   []net.Conn // to its sockets
	monitor *monitor
}

// Where the arguments speak of descriptors that QEMU inherits.
var (
	socketFD = regexp.MustCompile(`^socket,id=([a-z]+),fd=(\d+),`)
	fileFD   = regexp.MustCompile(`^fd=(\d+),set=\d+,opaque=(.+)$`)
	tapFD    = regexp.MustCompile(`"type":"tap".*"fd":"(\d+)"`)
)

// donated says what the arguments expect at each descriptor, from 3 on: "socket:qmp", "file:disk:root", "tap".
func donated(argv []string) ([]string, error) {
	found := map[int]string{}
	note := func(fd, what string) {
		n, _ := strconv.Atoi(fd)
		found[n] = what
	}
	for _, arg := range argv {
		if m := socketFD.FindStringSubmatch(arg); m != nil {
			note(m[2], "socket:"+m[1])
		} else if m := fileFD.FindStringSubmatch(arg); m != nil {
			note(m[1], "file:"+m[2])
		} else if m := tapFD.FindStringSubmatch(arg); m != nil {
			note(m[1], "tap")
		}
	}
	var list []string
	for fd := 3; fd < 3+len(found); fd++ {
		what, ok := found[fd]
		if !ok {
			return nil, fmt.Errorf("the arguments speak of %d descriptors, but not of %d", len(found), fd)
		}
		list = append(list, what)
	}
	return list, nil
}

// prepare opens and binds what a QEMU with the daemon's arguments inherits.
func (vm *handMade) prepare() (*bareQEMU, error) {
	q := &bareQEMU{}
	needs, err := donated(vm.floor.argv)
	if err != nil {
		return nil, err
	}
	for _, need := range needs {
		if err := vm.open(q, need); err != nil {
			q.release()
			return nil, fmt.Errorf("%s: %w", need, err)
		}
	}
	log, err := os.Create(vm.path("qemu.log"))
	if err != nil {
		q.release()
		return nil, err
	}
	q.cmd = exec.Command(vm.floor.argv[0], vm.floor.argv[1:]...)
	q.cmd.Env = []string{"LC_ALL=C"}
	q.cmd.Stdout, q.cmd.Stderr = log, log
	q.cmd.ExtraFiles = slices.Clone(q.files)
	q.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	q.files = append(q.files, log)
	return q, nil
}

func (vm *handMade) open(q *bareQEMU, need string) (err error) {
	var f *os.File
	switch kind, name, _ := strings.Cut(need, ":"); kind {
	case "socket":
		f, err = q.listen(vm.path(name+".sock"), name)
	case "tap":
		f, err = openTap("/run/netns/" + vm.netns)
	default:
		f, err = vm.openFile(name)
	}
	if err == nil {
		q.files = append(q.files, f)
	}
	return err
}

func (vm *handMade) openFile(name string) (*os.File, error) {
	switch name {
	case "console":
		return openFIFO(vm.path("console.in"))
	case "console.log":
		return os.OpenFile(vm.path("console.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	case "disk:root":
		return os.OpenFile(vm.path("root.qcow2"), os.O_RDWR, 0)
	case "disk:root:backing:0":
		return os.Open(vm.floor.base)
	case "disk:seed":
		return os.Open(vm.path("seed.iso"))
	}
	return nil, errors.New("what file is that?")
}

// openFIFO makes the FIFO and opens it for reading; the second time it opens it
// for both, as the daemon does to keep it open.
func openFIFO(path string) (*os.File, error) {
	err := unix.Mkfifo(path, 0o600)
	if errors.Is(err, unix.EEXIST) {
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// listen binds a socket and connects to it, before there is a QEMU to accept.
func (q *bareQEMU) listen(path, name string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	q.conns = append(q.conns, conn)
	if name == "qmp" {
		q.monitor = &monitor{conn: conn}
	}
	return l.File()
}

// openTap makes a tap in a network namespace.
func openTap(netns string) (f *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		lockThread()
		if err = enter(netns); err != nil {
			return
		}
		fd, e := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err = e; err != nil {
			return
		}
		f = os.NewFile(uintptr(fd), "/dev/net/tun")
		request, _ := unix.NewIfreq("tap0")
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}()
	<-done
	return f, err
}

// start starts QEMU and returns when it has answered cont.
func (q *bareQEMU) start() error {
	if err := q.cmd.Start(); err != nil {
		return err
	}
	closeFiles(q.files) // so that a QEMU that dies ends the connections
	var err error
	if q.monitor, err = negotiate(q.monitor.conn); err != nil {
		return err
	}
	return q.monitor.execute("cont", nil)
}

// quit has QEMU end itself, and returns when it is gone.
func (q *bareQEMU) quit() error {
	if err := q.monitor.execute("quit", nil); err != nil {
		return err
	}
	return q.cmd.Wait()
}

// kill ends QEMU if it still runs, and closes everything.
func (q *bareQEMU) kill() {
	if q.cmd != nil && q.cmd.Process != nil && q.cmd.ProcessState == nil {
		q.cmd.Process.Kill()
		q.cmd.Wait()
	}
	q.release()
}

func (q *bareQEMU) release() {
	closeFiles(q.files)
	for _, c := range q.conns {
		c.Close()
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func TestDonated(t *testing.T) {
	got, err := donated([]string{
		"-chardev", "socket,id=qmp,fd=3,server=on,wait=off", "-add-fd", "fd=5,set=5,opaque=disk:root:backing:0",
		"-add-fd", "fd=4,set=4,opaque=console", "-netdev", `{"type":"tap","id":"net0.tap","fd":"6"}`,
	})
	must(t, err)
	if want := []string{"socket:qmp", "file:console", "file:disk:root:backing:0", "tap"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := donated([]string{"socket,id=qmp,fd=4,server=on"}); err == nil {
		t.Error("a gap was accepted")
	}
}

// timed is how long f took.
func timed(tb testing.TB, f func() error) time.Duration {
	tb.Helper()
	begin := time.Now()
	must(tb, f())
	return time.Since(begin)
}
