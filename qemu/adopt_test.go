package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// orphan is a machine whose starter was killed.
type orphan struct {
	*vm
	id      Identity
	starter *exec.Cmd
}

// newOrphan has another process start a machine, and let the guest run. The process
// lives until it is killed.
func newOrphan(t *testing.T, guest string) *orphan {
	t.Helper()
	v := newVM(t, guest)
	o := &orphan{vm: v, starter: exec.Command("/proc/self/exe", "-test.run=^TestStarter$")}
	o.starter.Env = append(os.Environ(), "QEMULET_TEST_STARTER="+v.run, "QEMULET_TEST_GUEST="+guest)
	o.starter.Stderr = os.Stderr
	out, err := o.starter.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := o.starter.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.killStarter() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &o.id) != nil {
		t.Fatalf("the starter said %q, %v", line, err)
	}
	t.Cleanup(func() {
		if p, err := hostProc.find(o.id); err == nil {
			p.kill()
			p.wait()
			p.close()
		}
	})
	return o
}

func (o *orphan) killStarter() {
	o.starter.Process.Kill()
	o.starter.Wait()
}

// adopt adopts the machine when its starter is dead.
func (o *orphan) adopt(t *testing.T) *Machine {
	t.Helper()
	o.killStarter()
	m, err := o.vm.adopt(t.Context(), o.id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestStarter is no test but the process that newOrphan starts.
func TestStarter(t *testing.T) {
	dir := os.Getenv("QEMULET_TEST_STARTER")
	if dir == "" {
		t.Skip("run by other tests only")
	}
	v := newVM(t, os.Getenv("QEMULET_TEST_GUEST"))
	v.o.RunDir, v.o.Log = dir, filepath.Join(dir, "qemu.log")
	m := v.cont(t)
	os.RemoveAll(v.run)
	json.NewEncoder(os.Stdout).Encode(m.Identity())
	select {}
}

func TestAdopt(t *testing.T) {
	noLeaks(t)
	o := newOrphan(t, guestObeys)
	m := o.adopt(t)
	if !m.Responsive() || m.Identity() != o.id {
		t.Fatalf("adopted %+v instead of %+v", m.Identity(), o.id)
	}
	in, err := os.OpenFile(ConsoleInputPath(o.run), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("nobody would read what is typed: %v", err)
	}
	in.Close()
	between(t, "stop", stopped(t, m, time.Minute), 0, 3*time.Second)
	wantEnding(t, m.Ending(), Stopped, 0, "power button")
	if exists(ConsoleInputPath(o.run)) || exists(filepath.Join(o.run, "qmp.sock")) {
		t.Error("a socket or FIFO is left")
	}
}

// Killed, an adopted machine is noticed as quickly as a child.
func TestAdoptedKillMinus9(t *testing.T) {
	noLeaks(t)
	m := newOrphan(t, guestIgnores).adopt(t)
	began := time.Now()
	syscall.Kill(m.id.PID, syscall.SIGKILL)
	e := ended(t, m)
	between(t, "noticing", time.Since(began), 0, 200*time.Millisecond)
	t.Logf("noticed after %v: %+v", time.Since(began), e)
	if e.Reason != HostSignal && e.Reason != Unknown {
		t.Errorf("reason %s", e.Reason)
	}
}

// The daemon goes, and comes again, as often as it likes.
func TestAdoptAgain(t *testing.T) {
	noLeaks(t)
	v := newVM(t, guestObeys)
	m := v.cont(t)
	for range 3 {
		m.Close()
		var err error
		if m, err = v.adopt(t.Context(), m.Identity()); err != nil || !m.Responsive() {
			t.Fatalf("%v", err)
		}
	}
	stopped(t, m, time.Minute)
	wantEnding(t, m.Ending(), Stopped, 0, "")
}

// A guest that ended while nobody watched: its process has stayed, and is ended now;
// the reason and the time are those of then.
func TestAdoptEnded(t *testing.T) {
	for guest, reason := range map[string]Reason{guestPowersOff: GuestShutdown, guestPanics: GuestPanic} {
		t.Run(string(reason), func(t *testing.T) {
			noLeaks(t)
			v := newVM(t, guest)
			m := v.start(t)
			if err := m.Cont(t.Context()); err != nil {
				t.Fatal(err)
			}
			m.Close()
			logged := awaitLog(t, v)
			m2, err := v.adopt(t.Context(), m.id)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m2.Close() })
			e := ended(t, m2)
			if e.Reason != reason || !e.Time.Equal(logged.Time) || e.Time.IsZero() {
				t.Errorf("ending %+v, the log has %+v", e, logged)
			}
			wantGone(t, m.id.PID)
		})
	}
}

// awaitLog waits for the log to tell of an end.
func awaitLog(t *testing.T, v *vm) Ending {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if e, found := ReadEnding(v.o.Log); found {
			return e
		}
	}
	t.Fatalf("the guest does not end:\n%s", v.log(t))
	return Ending{}
}

// Gone machines are explained as far as can be.
func TestAdoptGone(t *testing.T) {
	for name, c := range map[string]struct {
		signal syscall.Signal
		reason Reason
		detail string
	}{
		"SIGKILL": {syscall.SIGKILL, Unknown, "QEMU is gone"},
		"SIGTERM": {syscall.SIGTERM, HostSignal, "terminating on signal 15"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrphan(t, guestIgnores)
			o.killStarter()
			p, err := hostProc.find(o.id)
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			syscall.Kill(o.id.PID, c.signal)
			p.wait()
			_, err = o.vm.adopt(t.Context(), o.id)
			var gone *GoneError
			if !errors.Is(err, ErrGone) || !errors.As(err, &gone) {
				t.Fatalf("error %v", err)
			}
			if e := gone.Ending; e.Reason != c.reason || !strings.Contains(e.Detail, c.detail) || e.Time.IsZero() != (c.reason == Unknown) {
				t.Errorf("ending %+v", e)
			}
		})
	}
}

// Whatever has the number of a machine's process is not taken for it, and not hurt.
func TestAdoptAnother(t *testing.T) {
	noLeaks(t)
	other := exec.Command("sleep", "1000", testUUID)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		other.Process.Kill()
		other.Wait()
	}()
	genuine, err := hostProc.identify(other.Process.Pid, testUUID)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Identity){
		"start time": func(id *Identity) { id.StartTime-- },
		"uuid":       func(id *Identity) { id.UUID = strings.Replace(testUUID, "0", "1", 1) },
		"boot":       func(id *Identity) { id.BootID = testUUID },
		"no number":  func(id *Identity) { id.PID = 0 },
		"group":      func(id *Identity) { id.PID = -id.PID },
		"init":       func(id *Identity) { id.PID = 1 },
		"nobody's":   func(id *Identity) { id.PID = 1<<22 + 1 },
	} {
		id := genuine
		change(&id)
		if _, err := Adopt(t.Context(), id, AdoptOptions{RunDir: shortDir(t)}); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other process has suffered: %v", err)
	}
}

// A dead child that nobody has reaped is no machine.
func TestAdoptZombie(t *testing.T) {
	m := newVM(t, guestIgnores).start(t)
	m.Close()
	p, err := hostProc.find(m.id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.kill()
	p.wait()
	if _, err := hostProc.find(m.id); !errors.Is(err, ErrGone) {
		t.Errorf("error %v", err)
	}
	if s := p.reap(); s.signal != syscall.SIGKILL {
		t.Errorf("reaped %v", s)
	}
}

// A monitor that does not answer is no reason to lose the machine.
func TestAdoptUnresponsive(t *testing.T) {
	noLeaks(t)
	o := newOrphan(t, guestIgnores)
	o.killStarter()
	syscall.Kill(o.id.PID, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	m, err := o.vm.adopt(ctx, o.id)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Responsive() || m.QMP() != nil || !errors.Is(m.Cont(t.Context()), ErrUnresponsive) || !errors.Is(m.PowerDown(t.Context()), ErrUnresponsive) {
		t.Error("responsive")
	}
	between(t, "stop", stopped(t, m, time.Minute), 0, time.Second)
	wantEnding(t, m.Ending(), Killed, 137, "")
}

// How a process ended that is no child is told by kernels from 6.15 on, once it is
// reaped by whose child it is.
func TestExitOfOthers(t *testing.T) {
	for script, want := range map[string]exitStatus{
		"read x; exit 42":    {known: true, code: 42},
		"read x; kill -9 $$": {known: true, signal: syscall.SIGKILL},
	} {
		c := exec.Command("sh", "-c", script)
		release, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := openProcess(c.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		io.WriteString(release, "\n")
		c.Wait()
		if err := p.wait(); err != nil {
			t.Error(err)
		}
		if got := p.exit(); got != want && !olderThan(t, 6, 15) {
			t.Errorf("%q ended with %v, want %v", script, got, want)
		}
	}
}

// olderThan tells whether the kernel is.
func olderThan(t *testing.T, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		t.Fatal(err)
	}
	return a < major || a == major && b < minor
}

func TestExitStatusText(t *testing.T) {
	for want, s := range map[string]exitStatus{
		"exit status unknown": {}, "exit status 3": {known: true, code: 3},
		"killed by signal 6 (SIGABRT)": {known: true, signal: syscall.SIGABRT},
	} {
		if s.String() != want {
			t.Errorf("%+v is %q", s, s)
		}
	}
}

// Field 2 of stat is whatever a process calls itself.
func TestParseStartTime(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
	for _, stat := range []string{"1 (a)" + tail, "1 (a b) c)" + tail, "1 ()" + tail + " 21 22 23"} {
		if n, err := parseStartTime([]byte(stat)); err != nil || n != 4711 {
			t.Errorf("%s: %d, %v", stat, n, err)
		}
	}
	for _, stat := range []string{"", "1 (a) S 1 2", "1 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"} {
		if n, err := parseStartTime([]byte(stat)); err == nil {
			t.Errorf("%q: %d", stat, n)
		}
	}
}
