package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qemulet/qemulet/e2e/node"
)

// floor does by hand, one thing after another, what starting a pod's machine takes: network namespace, CNI ADD, overlay,
// seed, and QEMU with the argument list of a machine that the daemon has started.
type floor struct {
	n     *node.Node
	dir   string
	argv  []string
	files map[int]string // what the daemon's QEMU has behind its descriptors
	base  string
	round int
}

var (
	addFD   = regexp.MustCompile(`^fd=(\d+),set=\d+`)
	chardev = regexp.MustCompile(`^socket,id=(\w+),fd=(\d+)`)
	tapFD   = regexp.MustCompile(`"fds?":"(\d+)"`)
)

// newFloor takes the argument list of a running QEMU, and the paths behind its descriptors.
func newFloor(n *node.Node, qemu node.Process, dir, base string) (*floor, error) {
	f := &floor{n: n, dir: dir, base: base, files: map[int]string{}}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", qemu.PID))
	if err != nil {
		return nil, err
	}
	f.argv = strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
	for i, a := range f.argv {
		if m := addFD.FindStringSubmatch(a); m != nil && f.argv[i-1] == "-add-fd" {
			fd, _ := strconv.Atoi(m[1])
			if f.files[fd], err = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", qemu.PID, fd)); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// steps are the durations of one start by hand.
type steps struct{ netns, cni, overlay, seed, qemu time.Duration }

func (s steps) total() time.Duration { return s.netns + s.cni + s.overlay + s.seed + s.qemu }

// run does it once and undoes it.
func (f *floor) run(ctx context.Context) (s steps, err error) {
	f.round++
	name := fmt.Sprintf("%s-f%d", f.n.Netns(), f.round)
	defer os.RemoveAll(f.path(""))
	if err := os.MkdirAll(f.path("seed"), 0o755); err != nil {
		return s, err
	}
	for _, file := range []string{"meta-data", "user-data", "network-config"} {
		if err := os.WriteFile(f.path("seed/"+file), []byte("{}\n"), 0o644); err != nil {
			return s, err
		}
	}
	begin := time.Now()
	lap := func(d *time.Duration) { *d = time.Since(begin); begin = time.Now() }
	if err := call(ctx, nil, "", "ip", "netns", "add", name); err != nil {
		return s, err
	}
	defer call(ctx, nil, "", "ip", "netns", "del", name)
	lap(&s.netns)
	if err := f.cni(ctx, "ADD", name); err != nil {
		return s, err
	}
	defer f.cni(ctx, "DEL", name)
	lap(&s.cni)
	if err := call(ctx, nil, "", "qemu-img", "create", "-q", "-f", "qcow2", "-b", f.base, "-F", "qcow2", f.path("root.qcow2")); err != nil {
		return s, err
	}
	lap(&s.overlay)
	if err := call(ctx, nil, "", "genisoimage", "-quiet", "-o", f.path("seed.iso"), "-V", "cidata", "-r", "-J", f.path("seed")); err != nil {
		return s, err
	}
	lap(&s.seed)
	end, err := f.qemu(ctx)
	lap(&s.qemu)
	if err == nil {
		err = end()
	}
	return s, err
}

func (f *floor) path(name string) string {
	return filepath.Join(f.dir, fmt.Sprintf("f%d", f.round), name)
}

// cni calls the bridge plugin as a runtime would.
func (f *floor) cni(ctx context.Context, verb, name string) error {
	data, err := os.ReadFile(filepath.Join(f.n.Dir, "cni", "10-e2e.conflist"))
	if err != nil {
		return err
	}
	var list struct {
		CNIVersion, Name string
		Plugins          []map[string]any
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, list.Name
	in, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	return call(ctx, []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + name, "CNI_NETNS=/run/netns/" + name, "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni"},
		string(in), "nsenter", "--net=/run/netns/"+f.n.Netns(), "/usr/lib/cni/bridge")
}

// qemu starts QEMU until its machine runs, and returns how to end it.
func (f *floor) qemu(ctx context.Context) (end func() error, err error) {
	files, err := f.open()
	defer func() {
		for _, file := range files {
			if file != nil {
				file.Close()
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, f.argv[0], f.argv[1:]...)
	cmd.ExtraFiles = files[3:]
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := func() error {
		cmd.Process.Kill()
		cmd.Wait()
		return nil
	}
	if err := cont(f.path("qmp")); err != nil {
		kill()
		return nil, err
	}
	return kill, nil
}

// open makes what the argument list expects behind its descriptor numbers, in a slice indexed by number.
func (f *floor) open() (files []*os.File, err error) {
	put := func(text string, file *os.File, e error) {
		fd, _ := strconv.Atoi(text)
		for len(files) <= fd {
			files = append(files, nil)
		}
		files[fd], err = file, errors.Join(err, e)
	}
	for i, a := range f.argv {
		if m := chardev.FindStringSubmatch(a); m != nil {
			file, e := listener(f.path(m[1]))
			put(m[2], file, e)
		} else if m := addFD.FindStringSubmatch(a); m != nil {
			fd, _ := strconv.Atoi(m[1])
			file, e := f.openFile(f.files[fd])
			put(m[1], file, e)
		} else if m := tapFD.FindStringSubmatch(a); m != nil && f.argv[i-1] == "-netdev" {
			file, e := f.tap()
			put(m[1], file, e)
		}
	}
	return files, err
}

// openFile opens this round's counterpart of a file that the daemon's QEMU has open.
func (f *floor) openFile(path string) (*os.File, error) {
	switch {
	case path == f.base || strings.Contains(path, "/images/"):
		return os.Open(path)
	case strings.HasSuffix(path, ".iso"):
		return os.Open(f.path("seed.iso"))
	case strings.HasSuffix(path, ".qcow2"):
		return os.OpenFile(f.path("root.qcow2"), os.O_RDWR, 0)
	}
	return os.OpenFile(f.path("log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
}

func listener(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// tap makes a tap in the node's namespace that is nowhere connected; it goes when it is closed.
func (f *floor) tap() (file *os.File, err error) {
	err = f.n.Do(func() error {
		file, err = openTap()
		return err
	})
	return file, err
}

func openTap() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq("qbench%d")
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a tap: %w", err)
	}
	return os.NewFile(uintptr(fd), "tap"), nil
}

// cont greets QEMU and has the machine run.
func cont(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(conn)
	if _, err := in.ReadString('\n'); err != nil {
		return fmt.Errorf("no greeting: %w", err)
	}
	for _, command := range []string{"qmp_capabilities", "cont"} {
		fmt.Fprintf(conn, "{\"execute\": %q}\r\n", command)
		for answer := ""; !strings.HasPrefix(answer, `{"return"`); {
			if answer, err = in.ReadString('\n'); err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
			if strings.HasPrefix(answer, `{"error"`) {
				return fmt.Errorf("%s: %s", command, answer)
			}
		}
	}
	return nil
}

// call runs a program.
func call(ctx context.Context, env []string, stdin string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}
