package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// realQEMU is the binary that tests start.
func realQEMU(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts QEMU")
	}
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatalf("QEMU is needed: %v", err)
	}
	return path
}

// nobody is the unprivileged user that tests start QEMU as.
func nobody(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("root is needed, to start QEMU as another user")
	}
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}

// Every machine that Build makes is one that the real QEMU takes: started as an
// unprivileged user in the full sandbox, it says that it is ready to run.
func TestGoldenStarts(t *testing.T) {
	binary, caps := realQEMU(t), goldenCapabilities(t)
	slots := make(chan struct{}, 2)
	for _, c := range goldenCases(t) {
		inv, err := Build(c.config, caps)
		if err != nil || c.noStart != "" {
			continue
		}
		inv.Binary = binary
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			m := startGolden(t, c.config, inv)
			if status := m.status(t); status != "prelaunch" {
				t.Errorf("status %q, QEMU says: %s", status, m.log(t))
			}
			if log := m.log(t); strings.TrimSpace(log) != "" && !strings.Contains(log, "TCG doesn't support requested feature") {
				t.Errorf("QEMU has something to say: %s", log)
			}
		})
	}
}

// The firmware of a machine without disks runs, and the console's log, which
// QEMU writes through a descriptor that it could not have opened, says so.
func TestConsoleLogFromFirmware(t *testing.T) {
	binary, caps := realQEMU(t), goldenCapabilities(t)
	config := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27,
		Disks: []Disk{{ID: "root", Bus: BusSCSI, Format: FormatQCow2, Backing: []Backing{{Format: FormatQCow2}}, BootIndex: 1}}}
	inv, err := Build(config, caps)
	if err != nil {
		t.Fatal(err)
	}
	inv.Binary = binary
	// It makes SeaBIOS talk on the serial line.
	machine := slices.Index(inv.Args, "-machine") + 1
	inv.Args[machine] += ",graphics=off"
	m := startGolden(t, config, inv)
	m.do(t, Command{Execute: "cont"}, nil)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(m.path(FileConsoleLog))
		if strings.Contains(string(text), "No bootable device") {
			return
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the log has %q, %v; QEMU says: %s", text, err, m.log(t))
		}
	}
}

// A file that another machine writes to is refused, by the image locks.
func TestDiskInUse(t *testing.T) {
	binary, caps := realQEMU(t), goldenCapabilities(t)
	config := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27,
		Disks: []Disk{{ID: "root", Bus: BusVirtio, Format: FormatQCow2}}}
	inv, err := Build(config, caps)
	if err != nil {
		t.Fatal(err)
	}
	inv.Binary = binary
	first := startGolden(t, config, inv)
	first.status(t)
	second := newGolden(t)
	if err := os.Link(first.path("disk:root"), second.path("disk:root")); err != nil {
		t.Fatal(err)
	}
	second.start(t, config, inv)
	second.cmd.Wait()
	if log := second.log(t); !strings.Contains(log, `Failed to get "write" lock`) {
		t.Errorf("the second machine said: %s", log)
	}
}

// Any number of machines run over one image.
func TestImageShared(t *testing.T) {
	binary, caps := realQEMU(t), goldenCapabilities(t)
	config := Config{Name: "vm", UUID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Accel: TCG, VCPUs: 1, MemoryBytes: 1 << 27,
		Disks: []Disk{{ID: "root", Bus: BusVirtio, Format: FormatQCow2, Backing: []Backing{{Format: FormatQCow2}}}}}
	inv, err := Build(config, caps)
	if err != nil {
		t.Fatal(err)
	}
	inv.Binary = binary
	first := startGolden(t, config, inv)
	first.status(t)
	second := newGolden(t)
	if err := os.Link(first.path("disk:root:backing:0"), second.path("disk:root:backing:0")); err != nil {
		t.Fatal(err)
	}
	second.start(t, config, inv)
	if status := second.status(t); status != "prelaunch" {
		t.Errorf("status %q, QEMU says: %s", status, second.log(t))
	}
}

// golden is a started machine.
type golden struct {
	dir  string
	cmd  *exec.Cmd
	conn net.Conn
	in   *bufio.Reader
}

func newGolden(t *testing.T) *golden {
	t.Helper()
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &golden{dir: dir}
}

func startGolden(t *testing.T, c Config, inv Invocation) *golden {
	t.Helper()
	m := newGolden(t)
	m.start(t, c, inv)
	for _, c := range inv.Commands {
		m.do(t, c, nil)
	}
	return m
}

// path is where the need of that name is.
func (m *golden) path(name string) string { return filepath.Join(m.dir, name) }

// start opens what an Invocation needs, in the order of its numbers, and runs it.
func (m *golden) start(t *testing.T, c Config, inv Invocation) {
	t.Helper()
	files := make([]*os.File, len(inv.Sockets)+2*len(inv.Pipes)+len(inv.Files))
	for _, s := range inv.Sockets {
		files[s.FD-firstFD] = m.listen(t, s.Name)
	}
	for _, p := range inv.Pipes {
		if err := (&donation{files: files}).pipe(m.dir, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range inv.Files {
		if files[n.FD-firstFD] == nil {
			m.open(t, c, inv, n, files)
		}
	}
	log, err := os.Create(m.path("qemu.log"))
	if err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command(inv.Binary, inv.Args...)
	m.cmd.ExtraFiles, m.cmd.Stdout, m.cmd.Stderr = files, log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobody(t)}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, log) {
		f.Close()
	}
	t.Cleanup(func() {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		if m.conn != nil {
			m.conn.Close()
		}
	})
}

// listen binds a socket as the caller of QEMU has to.
func (m *golden) listen(t *testing.T, name string) *os.File {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.path(name), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// open opens one file, or all queues of a tap at once.
func (m *golden) open(t *testing.T, c Config, inv Invocation, n FileNeed, files []*os.File) {
	t.Helper()
	kind, id, _ := strings.Cut(n.Name, ":")
	if kind == "tap" {
		nic, _, _ := strings.Cut(id, ":")
		var fds []int
		for _, other := range inv.Files {
			if strings.HasPrefix(other.Name, "tap:"+nic+":") {
				fds = append(fds, other.FD)
			}
		}
		for q, f := range openTaps(t, len(fds)) {
			files[fds[q]-firstFD] = f
		}
		return
	}
	if kind == "disk" {
		makeImage(t, m.path(n.Name), formatOf(t, c, n.Name))
	}
	if n.Directory {
		if err := os.Mkdir(m.path(n.Name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if isHostDevice(c, n.Name) {
		files[n.FD-firstFD] = openLoop(t, m.path(n.Name), n.OpenFlags())
		return
	}
	f, err := os.OpenFile(m.path(n.Name), n.OpenFlags()|map[bool]int{true: os.O_CREATE}[n.Append], 0o600)
	if err != nil {
		t.Fatal(err)
	}
	files[n.FD-firstFD] = f
}

// formatOf is the format that the config gives to the need of that name.
func formatOf(t *testing.T, c Config, name string) Format {
	t.Helper()
	for _, d := range c.Disks {
		if name == "disk:"+d.ID {
			return d.Format
		}
		for n, under := range d.Backing {
			if name == fmt.Sprintf("disk:%s:backing:%d", d.ID, n) {
				return under.Format
			}
		}
	}
	t.Fatalf("no disk for %s", name)
	return ""
}

func isHostDevice(c Config, name string) bool {
	return slices.ContainsFunc(c.Disks, func(d Disk) bool { return d.HostDevice && name == "disk:"+d.ID })
}

// openLoop makes a block device of a file, which goes with the last one who has it
// open.
func openLoop(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	control, err1 := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	backing, err2 := os.OpenFile(path, os.O_RDWR, 0)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("a loop device is needed: %v", err)
	}
	defer control.Close()
	defer backing.Close()
	for range 50 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			return loop
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
	}
	t.Fatal("no free loop device")
	return nil
}

// makeImage makes an empty image, unless it is there.
func makeImage(t *testing.T, path string, format Format) {
	t.Helper()
	if _, err := os.Stat(path); err == nil {
		return
	}
	if format == FormatRaw {
		if err := os.WriteFile(path, make([]byte, mebibyte), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	// A header that names a file which does not exist: it must not be followed.
	out, err := exec.Command("qemu-img", "create", "-u", "-q", "-f", string(format), "-b", "/nonexistent", "-F", "raw", path, "1M").CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
}

// openTaps opens the queues of a tap device in a network namespace of its own,
// which goes with the last of them.
func openTaps(t *testing.T, queues int) []*os.File {
	t.Helper()
	type result struct {
		files []*os.File
		err   error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread, and its namespace, end with this
		// goroutine.
		runtime.LockOSThread()
		var r result
		if r.err = unix.Unshare(unix.CLONE_NEWNET); r.err == nil {
			for len(r.files) < queues && r.err == nil {
				var f *os.File
				f, r.err = openTap(queues > 1)
				r.files = append(r.files, f)
			}
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("tap: %v", r.err)
	}
	return r.files
}

func openTap(multi bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq("tap0")
	if err != nil {
		return nil, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "tap0"), nil
}

// do says one thing to the monitor and takes the answer, whatever comes between.
func (m *golden) do(t *testing.T, command Command, out any) {
	t.Helper()
	if m.conn == nil {
		conn, err := net.Dial("unix", m.path(SocketQMP))
		if err != nil {
			t.Fatal(err)
		}
		m.conn, m.in = conn, bufio.NewReader(conn)
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		m.do(t, Command{Execute: "qmp_capabilities"}, nil)
	}
	raw, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(m.conn, "%s\n", raw)
	for {
		line, err := m.in.ReadBytes('\n')
		if err != nil {
			t.Fatalf("%s: %v; QEMU says: %s", command.Execute, err, m.log(t))
		}
		var reply struct{ Return, Error json.RawMessage }
		if err := json.Unmarshal(line, &reply); err != nil || reply.Error != nil {
			t.Fatalf("%s: %v %s", command.Execute, err, line)
		}
		if reply.Return == nil {
			continue // the greeting, or an event
		}
		if out != nil {
			if err := json.Unmarshal(reply.Return, out); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
}

func (m *golden) status(t *testing.T) string {
	t.Helper()
	var status struct{ Status string }
	m.do(t, Command{Execute: "query-status"}, &status)
	return status.Status
}

// log is what QEMU has said.
func (m *golden) log(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(m.path("qemu.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
