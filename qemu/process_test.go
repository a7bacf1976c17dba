package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qemulet/qemulet/qmp"
	"golang.org/x/sys/unix"
)

func TestStart(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestIgnores)
	m := v.start(t)
	status, err := m.QMP().QueryStatus(t.Context())
	if err != nil || status.Status != qmp.RunStatePrelaunch {
		t.Fatalf("status %v, %v", status, err)
	}
	if !m.Responsive() {
		t.Error("not responsive")
	}
	id := m.Identity()
	if id.PID <= 1 || id.StartTime == 0 || id.UUID != testUUID || len(id.BootID) != 36 {
		t.Errorf("identity %+v", id)
	}
	wantProcess(t, id.PID)
	for path, mode := range map[string]os.FileMode{filepath.Join(v.run, "qmp.sock"): os.ModeSocket, ConsoleInputPath(v.run): os.ModeNamedPipe} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != mode|0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
	wantEnding(t, ended(t, m), Killed, 137, "killed on request")
	wantGone(t, id.PID)
	for _, path := range []string{filepath.Join(v.run, "qmp.sock"), ConsoleInputPath(v.run)} {
		if exists(path) {
			t.Errorf("%s is left", path)
		}
	}
}

// wantProcess checks what a QEMU process is confined to.
func wantProcess(t *testing.T, pid int) {
	t.Helper()
	proc := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "Gid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2", fmt.Sprintf("NSsid:\t%d", pid)} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	for fd, want := range map[string]string{"0": "/dev/null", "1": "qemu.log", "2": "qemu.log", "3": "socket:"} {
		if link, err := os.Readlink(proc + "fd/" + fd); err != nil || !strings.Contains(link, want) {
			t.Errorf("descriptor %s is %s, %v, want %s", fd, link, err, want)
		}
	}
	info, err := os.ReadFile(proc + "fdinfo/2")
	if err != nil || !hasFlag(string(info), unix.O_APPEND) {
		t.Errorf("the log is not appended to: %s, %v", info, err)
	}
	if env, err := os.ReadFile(proc + "environ"); err != nil || string(env) != "LC_ALL=C\x00" {
		t.Errorf("environment %q, %v", env, err)
	}
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != "/" {
		t.Errorf("working directory %s, %v", cwd, err)
	}
}

func hasFlag(fdinfo string, flag int64) bool {
	_, rest, _ := strings.Cut(fdinfo, "flags:")
	octal, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	flags, err := strconv.ParseInt(octal, 8, 64)
	return err == nil && flags&flag != 0
}

// QEMU writes no cores: said by us, or inherited where we may not say so.
func TestNoCore(t *testing.T) {
	v := newVM(t, guestIgnores)
	v.o.Credential = nil
	m := v.start(t)
	var limit unix.Rlimit
	if err := unix.Prlimit(m.id.PID, unix.RLIMIT_CORE, nil, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core limit %+v, %v", limit, err)
	}
}

func TestStartErrors(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, v *vm)
		want   []string
		limit  time.Duration
	}{
		{"bogus device", func(t *testing.T, v *vm) { v.inv.Args = append(v.inv.Args, "-device", "no-such-thing") },
			[]string{"exit status 1", "-device no-such-thing: 'no-such-thing' is not a valid device model name"}, time.Second},
		{"missing binary", func(t *testing.T, v *vm) { v.inv.Binary = "/nonexistent/qemu" },
			[]string{"QEMU binary /nonexistent/qemu is missing"}, time.Second},
		{"exits at once, with warnings", func(t *testing.T, v *vm) {
			v.inv.Binary = script(t, "echo qemu-fake: warning: old host >&2; echo qemu-fake: out of luck >&2; exit 7")
		}, []string{"exit status 7: out of luck"}, time.Second},
		{"dies of a signal", func(t *testing.T, v *vm) { v.inv.Binary = script(t, "kill -SEGV $$") },
			[]string{"killed by signal 11 (SIGSEGV)"}, time.Second},
		{"never greets", func(t *testing.T, v *vm) { v.inv.Binary = script(t, "echo waiting; exec sleep 1000 </dev/null") },
			[]string{"greeting", "waiting"}, 5 * time.Second},
		{"runs at once", func(t *testing.T, v *vm) { v.inv.Args = v.inv.Args[1:] },
			[]string{`in the state "running" instead of "prelaunch"`, "-S"}, 2 * time.Second},
		{"long path", func(t *testing.T, v *vm) {
			v.o.RunDir = filepath.Join(v.run, strings.Repeat("x", 100))
			if err := os.Mkdir(v.o.RunDir, 0o700); err != nil {
				t.Fatal(err)
			}
		}, []string{strings.Repeat("x", 100) + "/qmp.sock", "at most 107"}, time.Second},
		{"no run directory", func(t *testing.T, v *vm) { v.o.RunDir = "/nonexistent" }, []string{"/nonexistent/qmp.sock", "no such file"}, time.Second},
		{"no log", func(t *testing.T, v *vm) { v.o.Log = "/nonexistent/qemu.log" }, []string{"/nonexistent/qemu.log"}, time.Second},
		{"file not given", func(t *testing.T, v *vm) { delete(v.o.Files, "disk") }, []string{`the file "disk"`}, time.Second},
		{"numbers with a gap", func(t *testing.T, v *vm) { v.inv.Files[0].FD = 9 }, []string{`descriptor 9 of "console.log"`}, time.Second},
		{"number used twice", func(t *testing.T, v *vm) { v.inv.Files[0].FD = 4 }, []string{"descriptor 4", "each once"}, time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := newVM(t, guestIgnores)
			c.change(t, v)
			noLeaks(t)
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			began := time.Now()
			m, err := Start(ctx, v.inv, v.o)
			if err == nil {
				destroy(m)
				t.Fatal("it started")
			}
			if took := time.Since(began); took > c.limit {
				t.Errorf("took %v", took)
			}
			var e *StartError
			if !errors.As(err, &e) {
				t.Errorf("no StartError: %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(v.o.RunDir, "*.sock")); len(left) > 0 {
				t.Errorf("%v left", left)
			}
			wantNoChild(t)
		})
	}
}

// wantNoChild fails if a child has not been reaped.
func wantNoChild(t *testing.T) {
	t.Helper()
	var ws syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil); err == nil {
		t.Errorf("there is a child: %d", pid)
	}
}

// A start that failed leaves nothing that the next one trips over, and neither
// does a process of before that was killed while it bound its sockets.
func TestStartAgain(t *testing.T) {
	v := newVM(t, guestIgnores)
	args := v.inv.Args
	v.inv.Args = append([]string{"-bogus"}, args...)
	if _, err := Start(t.Context(), v.inv, v.o); err == nil || !strings.Contains(err.Error(), "invalid option") {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(v.run, "qmp.sock")}); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	v.inv.Args = args
	m := v.start(t)
	if _, err := Start(t.Context(), v.inv, v.o); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second machine in the same directory: %v", err)
	}
	if !m.Responsive() || m.Cont(t.Context()) != nil {
		t.Error("the first machine has suffered")
	}
}

func TestConsole(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestPowersOff)
	m := v.start(t)
	in, err := os.OpenFile(ConsoleInputPath(v.run), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.WriteString("typed"); err != nil {
		t.Error(err)
	}
	in.Close()
	if err := m.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEnding(t, ended(t, m), GuestShutdown, 0, "")
	if text, err := os.ReadFile(filepath.Join(v.run, FileConsoleLog)); !strings.Contains(string(text), "SeaBIOS") {
		t.Errorf("console %q, %v", text, err)
	}
}

func TestKillMinus9IsNoticed(t *testing.T) {
	noLeaks(t)
	m := newVM(t, guestIgnores).cont(t)
	began := time.Now()
	syscall.Kill(m.id.PID, syscall.SIGKILL)
	e := ended(t, m)
	if took := time.Since(began); took > 200*time.Millisecond {
		t.Errorf("noticed after %v", took)
	} else {
		t.Logf("noticed after %v", took)
	}
	wantEnding(t, e, HostSignal, 137, "SIGKILL")
	wantGone(t, m.id.PID)
}

func TestEndings(t *testing.T) {
	cases := []struct {
		name, guest string
		act         func(m *Machine, ctx context.Context) error
		reason      Reason
		code        int
		detail      string
	}{
		{"guest powers off", guestPowersOff, nil, GuestShutdown, 0, "powered off"},
		{"guest panics", guestPanics, nil, GuestPanic, 1, "panicked"},
		{"quit by another", guestIgnores, func(m *Machine, ctx context.Context) error { return m.QMP().Quit(ctx) }, Killed, 137, "quit"},
		{"killed", guestIgnores, func(m *Machine, _ context.Context) error { return m.Kill() }, Killed, 137, "on request"},
		{"SIGTERM", guestIgnores, signaller(syscall.SIGTERM), HostSignal, 143, "terminating on signal 15"},
		{"SIGHUP", guestIgnores, signaller(syscall.SIGHUP), HostSignal, 129, "terminating on signal 1"},
		{"SIGSEGV", guestIgnores, signaller(syscall.SIGSEGV), Crash, 139, "SIGSEGV"},
		{"forbidden", guestIgnores, func(m *Machine, ctx context.Context) error {
			err := m.QMP().Do(ctx, "migrate", map[string]string{"uri": "exec:true"}, nil)
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}, Seccomp, 159, "sandbox"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newVM(t, c.guest).cont(t)
			if c.act != nil {
				if err := c.act(m, t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			wantEnding(t, ended(t, m), c.reason, c.code, c.detail)
		})
	}
}

func signaller(s syscall.Signal) func(*Machine, context.Context) error {
	return func(m *Machine, _ context.Context) error { return syscall.Kill(m.id.PID, s) }
}

// What QEMU reports itself is dated by itself.
func TestEndingTimeIsExact(t *testing.T) {
	v := newVM(t, guestPowersOff)
	live := ended(t, v.cont(t))
	logged, found := ReadEnding(v.o.Log)
	if !found || logged.Reason != GuestShutdown {
		t.Fatalf("the log says %+v, %v:\n%s", logged, found, v.log(t))
	}
	if d := live.Time.Sub(logged.Time); d < -5*time.Millisecond || d > 5*time.Millisecond {
		t.Errorf("the event says %v and the log %v", live.Time, logged.Time)
	}
}

// Close leaves the guest alone, and a closed machine alone, too.
func TestClose(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestIgnores)
	m := v.cont(t)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-m.Done():
		t.Error("closed, but not done")
	default:
	}
	if err := m.Stop(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("Stop: %v", err)
	}
	if err := m.Kill(); !errors.Is(err, ErrClosed) {
		t.Errorf("Kill: %v", err)
	}
	if err := syscall.Kill(m.id.PID, 0); err != nil {
		t.Errorf("the process has suffered: %v", err)
	}
}
